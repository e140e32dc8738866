"""TricksPage: the catalogue by stage, and a page for each trick that is made from its class."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, JSONResponse

from app import catalogue, forms
from app.connections import AnEngine, Reading
from app.inquiries import desk
from app.pages.lab import live
from app.pages.templates import render
from app.run_view import runs_by_id
from app.sources import missing_sources
from app.trick_use import newest_with, use_counts
from trainer.check import check
from trainer.config import RunConfig
from trainer.inquiries import Equivalence
from trainer.lessons import LESSONS
from trainer.part import Refused, name_of
from trainer.recipes import RECIPES
from trainer.store.database import writing
from trainer.tricks import TRICKS, Trick

router = APIRouter()

Name = Annotated[str, Path(max_length=100)]
MOST_RUNS = 10


@router.get("/tricks")
def index(request: Request, connection: Reading) -> HTMLResponse:
    """The catalogue."""
    stages = forms.trick_cards()
    return render(request, "tricks/index.html", stages=stages, used=use_counts(connection))


@router.get("/tricks/{name}")
def page(request: Request, name: Name, connection: Reading) -> HTMLResponse:
    """One trick: what it does, when it helps, what it clashes with, and a lesson."""
    trick = find(name)
    lessons = [lesson for lesson in LESSONS if name in lesson.tricks]
    summary, _, rest = catalogue.documentation(trick).partition("\n\n")
    return render(
        request,
        "tricks/trick.html",
        trick=trick,
        name=name,
        summary=summary.replace("\n", " "),
        paragraphs=[one.replace("\n", " ") for one in rest.split("\n\n") if one],
        inputs=forms.inputs("", trick),
        clashes=clashes_of(trick),
        lesson=live(lessons[0], dict(request.query_params)) if lessons else None,
        more_lessons=lessons[1:],
        runs=runs_by_id(connection, newest_with(connection, name, MOST_RUNS)),
        used=use_counts(connection)[name],
    )


@router.post("/tricks/{name}/prove")
def prove(name: Name, engine: AnEngine) -> JSONResponse:
    """Ask for one step with the trick and one without, on the first recipe that it fits."""
    config = ground_for(find(name))
    if missing := list(missing_sources(engine, config)):
        return JSONResponse({"detail": "; ".join(message for _, message in missing)})
    try:
        with writing(engine) as connection:
            number = desk.add(connection, Equivalence(trick=name, config=config))
    except Refused as refusal:
        return JSONResponse({"detail": str(refusal)})
    return JSONResponse({"number": number})


def find(name: str) -> type[Trick]:
    """The trick of that name. Raises NotThere with the names there are."""
    found = catalogue.find("trick", name)
    assert issubclass(found, Trick)
    return found


def ground_for(trick: type[Trick]) -> RunConfig:
    """A config to prove a trick on: a recipe that has it, or else one that it can be added to."""
    configs = [one.config for one in RECIPES.values()]
    having = [config for config in configs if trick in map(type, config.tricks)]
    for config in having:
        return config
    for config in configs:
        added = config.model_copy(update={"tricks": (*config.tricks, trick())})
        if not check(added):
            return added
    return configs[0]


@dataclass(frozen=True)
class Clash:
    """A trick that cannot be on together with another, and why."""

    name: str
    title: str
    why: str


def clashes_of(trick: type[Trick]) -> list[Clash]:
    """What a trick clashes with: what either says, and the slots that both replace."""
    found = []
    for other in TRICKS:
        own, its = name_of(trick), name_of(other)
        shared = sorted(trick.owns & other.owns)
        why = trick.clashes.get(its) or other.clashes.get(own, "")
        if not why and shared and own != its:
            why = f"both replace {', '.join(shared)}"
        if why:
            found.append(Clash(its, other.title, why))
    return found
