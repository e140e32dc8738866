"""Equivalence: one optimizer step with and without a trick, compared tensor by tensor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from trainer.config import RunConfig
from trainer.environment import describe
from trainer.proofs.comparison import Comparison, comparison, largest
from trainer.proofs.running_statistics import Followed, follow_statistics
from trainer.proofs.step import Ground, Manner, depends_on_batch, made_ready, take_step
from trainer.schedules import Constant
from trainer.tricks import Exactness, Trick, in_order, name_of

CONDITIONS = ("torch", "device", "device_title", "threads")


class Limits(NamedTuple):
    """The largest errors at which a claim holds."""

    gradient: float
    """Also of the loss."""
    update: float
    """Larger: the difference of two weights loses digits, and AdamW divides by the gradient's own
    size, so that the rounding of one near zero is seen."""


DOUBLE = Limits(1e-12, 1e-8)
"""Of exact tricks and of close ones: in double precision rounding cannot hide a wrong factor."""
SINGLE = Limits(1e-2, 0.1)
"""Of a close trick as it trains, of an exact one where the device has no double precision. Wide:
what rounding pushes past the kink of a ReLU or another maximum of a pooling shows in the gradient,
by 6e-4 in the small U-Net."""


@dataclass(frozen=True)
class Proof:
    """What a trick claims of one step, what was measured, and whether that holds."""

    trick: str
    exactness: Exactness
    comparisons: tuple[Comparison, ...]
    judged: Comparison
    """The one that the claim is held against."""
    holds: bool | None
    """None where the trick is meant to change what is learned."""
    note: str
    but_for: tuple[str, ...] = ()
    """Kinds of layers without whose doing it holds, and with which it does not."""
    running_statistics: tuple[Followed, ...] = ()
    """What batch norm remembers, by how its momentum is chosen; where batches are other ones."""
    conditions: Mapping[str, Any] | None = None

    def told(self) -> dict[str, Any]:
        """The same as JSON."""
        is_judged = self.holds is not None
        limits = limits_of(self.judged.precision)
        return {
            "trick": self.trick,
            "exactness": self.exactness.value,
            "tolerance": limits.gradient if is_judged else None,
            "update_tolerance": limits.update if is_judged else None,
            "error": self.judged.gradient,
            "holds": self.holds,
            "note": self.note,
            "but_for": list(self.but_for),
            "judged": self.judged.told(),
            "comparisons": [one.told() for one in self.comparisons],
            "running_statistics": [one._asdict() for one in self.running_statistics],
            "conditions": dict(self.conditions or {}),
        }


def prove(config: RunConfig, trick: Trick, ground: Ground) -> Proof:
    """Take one step of a config with a trick and without it, in both precisions.

    Both start from the same weights and see the same examples: a trick that takes several batches
    for a step is compared with one large batch, a short last window included. Raises Refused where
    the trick finds nothing to change, and ValidationError where it clashes with another.
    """
    name = name_of(type(trick))
    others = [one for one in config.tricks if one.name != name]
    pair = Pair(changed(config, others), changed(config, in_order([*others, trick])), ground)
    comparisons = tuple(compared(pair))
    verdict = judge(trick.exactness, comparisons, pair.dependent)
    followed: tuple[Followed, ...] = ()
    if pair.batches > pair.batches_without:
        followed = follow_statistics(pair.plain, ground, pair.sizes)
    known = describe(ground.device)
    return Proof(
        trick=name,
        exactness=trick.exactness,
        comparisons=comparisons,
        running_statistics=followed,
        conditions={key: known[key] for key in CONDITIONS},
        **verdict._asdict(),
    )


def changed(config: RunConfig, tricks: Sequence[Trick]) -> RunConfig:
    """The config with other tricks, validated anew, and at one learning rate.

    Schedules count steps, of which a trick may make fewer: their first rate would differ.
    """
    return RunConfig.model_validate(
        {**dict(config), "schedule": Constant(), "tricks": tuple(tricks)}
    )


class Pair:
    """A config without the trick in question and with it, on the same ground."""

    def __init__(self, plain: RunConfig, tricked: RunConfig, ground: Ground) -> None:
        self.plain, self.tricked, self.ground = plain, tricked, ground
        setup = made_ready(tricked, ground)
        self.batches = setup.batches_per_step
        self.batches_without = made_ready(plain, ground).batches_per_step
        self.dependent = sorted(
            {type(m).__name__ for m in setup.model.modules() if depends_on_batch(m)}
        )
        """The kinds of layers that depend on how examples are put into batches."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Examples of each batch of a whole window."""
        batches = max(self.batches, self.batches_without)
        fitting = max(2, len(self.ground.data.train) // batches)
        return (min(self.tricked.loader.batch_size, fitting),) * batches

    @property
    def windows(self) -> Iterator[tuple[int, ...]]:
        yield self.sizes
        if len(self.sizes) > 1:
            # the last of an epoch: a batch fewer where it can be, and a smaller last one
            yield (*self.sizes[: max(len(self.sizes) - 2, 1)], self.sizes[0] // 2 + 1)

    def compare(self, sizes: tuple[int, ...], dtype: torch.dtype, in_eval: bool) -> Comparison:
        with_it, without = (
            sizes if batches == len(self.sizes) else (sum(sizes),)
            for batches in (self.batches, self.batches_without)
        )
        manner = Manner(with_it, dtype, in_eval)
        one = take_step(self.tricked, self.ground, manner)
        other = take_step(self.plain, self.ground, Manner(without, dtype, in_eval))
        return comparison(one, other, manner, without)


def compared(pair: Pair) -> Iterator[Comparison]:
    """Every window in every precision, and without what batches do to some layers."""
    has_double = pair.ground.device.type != "mps"
    regroups = pair.batches != pair.batches_without
    for sizes in pair.windows:
        for dtype in (torch.float32, torch.float64) if has_double else (torch.float32,):
            for in_eval in (False, True) if regroups and pair.dependent else (False,):
                yield pair.compare(sizes, dtype, in_eval)


class Verdict(NamedTuple):
    """What a claim was held against, and how that went; as in the proof."""

    judged: Comparison
    holds: bool | None
    note: str
    but_for: tuple[str, ...] = ()


def judge(
    exactness: Exactness, comparisons: tuple[Comparison, ...], dependent: Sequence[str]
) -> Verdict:
    """Hold what was measured against what is claimed.

    `dependent` names the kinds of layers that are in eval where a comparison says so.
    """
    if exactness is Exactness.DIFFERENT:
        shown = next(one for one in reversed(comparisons) if not one.in_eval)
        return Verdict(shown, None, what_stays(shown))
    # rounding is not held against an exact trick, where there is a precision without
    has_double = any(one.precision == "float64" for one in comparisons)
    only_double = has_double and exactness is Exactness.EXACT
    judged = [one for one in comparisons if one.precision == "float64" or not only_double]
    as_trained = [one for one in judged if not one.in_eval]
    failing = [one for one in as_trained if complaint(one)]
    if not failing:
        return Verdict(worst(as_trained), True, about_rate(as_trained[0]))
    in_eval = [one for one in judged if one.in_eval]
    if not in_eval or any(map(complaint, in_eval)):
        bad = worst([one for one in in_eval if complaint(one)] or failing)
        return Verdict(bad, False, complaint(bad))
    differs = worst(failing)
    note = (
        f"in training {' and '.join(dependent)} looks at each batch by itself, so the gradient "
        f"from batches of {differs.sizes[0]} is not that of the large batch: it differs by "
        f"{differs.gradient:.2g}, and no scaling mends that; with such layers as in evaluation it "
        "is the same"
    )
    return Verdict(worst(in_eval), True, note + about_rate(differs, "; "), tuple(dependent))


def limits_of(precision: str) -> Limits:
    return DOUBLE if precision == "float64" else SINGLE


def complaint(one: Comparison) -> str:
    """What of a comparison is further apart than may be, in words; empty where nothing is."""
    if one.without_gradient:
        names = ", ".join(one.without_gradient[:3])
        return f"{names} has a gradient in one of the two steps only"
    limits = limits_of(one.precision)
    for what, error, most in (
        ("loss", one.loss, limits.gradient),
        ("gradient", one.gradient, limits.gradient),
        ("update", one.update, limits.update),
    ):
        # not the other way round: nothing is said of what is not a number
        if not error <= most:
            where = f", most of all for {one.worst_layer}" if one.worst_layer else ""
            return (
                f"the {what} differs by {error:.2g} in {one.precision}, where at most {most:g} is "
                f"claimed{where}"
            )
    return ""


def about_rate(one: Comparison, join: str = "") -> str:
    if one.learning_rate_factor == 1:
        return ""
    return (
        f"{join}its rule makes the learning rate {one.learning_rate_factor:g} times as high, and "
        "updates are compared at the same rate"
    )


def what_stays(one: Comparison) -> str:
    """Of a trick that changes training: what it leaves as it is."""
    same, all_ = one.same_gradients, len(one.layers)
    stays = "no gradient" if not same else f"{same} of {all_} gradients"
    left = f"; {len(one.without_gradient)} get none" if one.without_gradient else ""
    return f"meant to change what is learned: {stays} the same to the bit{left}"


def worst(comparisons: Sequence[Comparison]) -> Comparison:
    """The one furthest from its limits."""
    return max(comparisons, key=severity)


def severity(one: Comparison) -> float:
    limits = limits_of(one.precision)
    of_gradient = max(largest(one.loss), largest(one.gradient)) / limits.gradient
    return max(of_gradient, largest(one.update) / limits.update)
