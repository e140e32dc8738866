"""equivalence: what tricks change in one step of a config, and whether their claims hold."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from trainer.config import RunConfig
from trainer.inquiry import AboutConfig, Bench
from trainer.part import Refused
from trainer.proofs.equivalence import prove
from trainer.proofs.step import Ground
from trainer.recipes import RECIPES
from trainer.tasks import Digits
from trainer.threads import threads
from trainer.tricks import TRICKS, Trick, name_of


class Equivalence(AboutConfig):
    """Take one optimizer step of a config with each trick and without it, and compare.

    Loss, gradient and update of every parameter, in single and in double precision. A trick that
    claims to be exact must agree to the rounding of double precision, one that claims to be close
    to that of single precision; one that is meant to change training is shown and not judged.
    """

    title: ClassVar[str] = "Equivalence"
    name: Literal["equivalence"] = "equivalence"
    trick: str = Field(
        "",
        max_length=100,
        description="The name of one trick. Empty: those of the config; all: the whole catalogue, "
        "each where it finds something to change.",
    )

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        tricks = self.tricks()
        proofs: list[Mapping[str, Any]] = []
        with threads(self.config.threads):
            for number, trick in enumerate(tricks):
                name = name_of(type(trick))
                bench.tell(number / len(tricks), f"a step with {name}", {"proofs": list(proofs)})
                proofs.append(self.proved(trick, bench))
        return {"device": str(bench.device), "proofs": proofs}

    def proved(self, trick: Trick, bench: Bench) -> Mapping[str, Any]:
        """The proof of a trick, or why there is none."""
        configs = {"": self.config} | (elsewhere(trick) if self.trick == "all" else {})
        refusals: list[Refused | ValidationError] = []
        for recipe, config in configs.items():
            data = config.task.load(bench.data)
            ground = Ground(data, bench.device, bench.data.sources)
            try:
                return {**prove(config, trick, ground).told(), "recipe": recipe}
            except (Refused, ValidationError) as refusal:
                refusals.append(refusal)
        return {**refused(trick, refusals[0]), "recipe": ""}

    def tricks(self) -> list[Trick]:
        """The tricks in question, as the config has them where it does."""
        chosen = {name_of(type(trick)): trick for trick in self.config.tricks}
        if not self.trick:
            if not chosen:
                raise Refused("this config has no trick to prove; name one, or all")
            return list(chosen.values())
        known = {name_of(trick): trick for trick in TRICKS}
        if self.trick != "all" and self.trick not in known:
            raise Refused(f"there is no trick {self.trick!r}; there are {', '.join(known)}, or all")
        names = known if self.trick == "all" else (self.trick,)
        return [chosen.get(name) or known[name]() for name in names]


def elsewhere(trick: Trick) -> dict[str, RunConfig]:
    """Where a trick may find something to change if it does not in the config that was asked about.

    Recipes on data that is there without a network, those with the trick first.
    """
    bundled = {name: one.config for name, one in RECIPES.items() if one.config.task == Digits()}
    has = {name: type(trick) in map(type, config.tricks) for name, config in bundled.items()}
    return {name: bundled[name] for name in sorted(bundled, key=lambda name: not has[name])}


def refused(trick: Trick, refusal: Exception) -> Mapping[str, Any]:
    """A proof that could not be made, in the form of one that could."""
    if isinstance(refusal, ValidationError):
        why = "; ".join(error["msg"].removeprefix("Value error, ") for error in refusal.errors())
    else:
        why = str(refusal)
    return {
        "trick": name_of(type(trick)),
        "exactness": trick.exactness.value,
        "tolerance": None,
        "error": None,
        "holds": None,
        "note": why,
        "but_for": [],
        "update_tolerance": None,
        "judged": None,
        "comparisons": [],
        "running_statistics": [],
        "conditions": {},
    }
