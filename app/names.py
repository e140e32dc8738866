"""Names of runs: readable ones given by the lab, and which ones a person may give."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from trainer.streams import stream_seed

LONGEST = 100

ADJECTIVES = """
amber agile bold brave brisk calm clear clever cosy crisp curious dapper deep eager early fair
fine fleet fond frank free fresh gentle glad golden grand green happy honest humble jolly keen
kind lively lucid lucky mellow merry mild modest neat nimble noble patient plain polite prime
proud quick quiet rapid ready rosy royal sage sharp shy silent silver simple sleek smooth snug
sober soft solid spry steady still sunny swift tidy true vivid warm wise
""".split()
ANIMALS = """
adder ant auk badger bat bear beaver bee bison bream carp cat civet cod coot crab crane crow
deer dove duck eagle eel egret elk falcon finch fox frog gecko goat goose grebe gull hare hawk
heron hornet ibex ibis jay kite koala lark lemur linnet lion lizard loon lynx magpie marten mole
moose moth newt orca osprey otter owl panda perch pike plover puffin quail raven robin rook seal
shrew snail stork swan tapir teal tern tiger toad trout viper vole wolf wren
""".split()


def readable_name(run_id: int, draw: int = 0) -> str:
    """A name such as quiet-otter-42; the number keeps it unique. Each draw gives another."""
    number = stream_seed(run_id, "name", draw)
    adjective = ADJECTIVES[number % len(ADJECTIVES)]
    animal = ANIMALS[number // len(ADJECTIVES) % len(ANIMALS)]
    return f"{adjective}-{animal}-{run_id}"


def name_problem(name: str) -> str:
    """Why a run may not be called so, or ""; no name at all is fine."""
    if len(name) > LONGEST:
        return f"a name has at most {LONGEST} characters"
    if name.isdecimal():
        return "a name of only digits would be taken for a run's number"
    if not name.isprintable() or set(name) & set("/?#") or name in (".", ".."):
        return "a name stands in addresses: it takes no / ? # and no invisible characters"
    return ""


def must_be_usable(name: str) -> str:
    if problem := name_problem(name):
        raise ValueError(problem)
    return name


def must_be_storable(text: str) -> str:
    """PostgreSQL's text takes no NUL."""
    if "\0" in text:
        raise ValueError("it contains a NUL character")
    return text


Storable = AfterValidator(must_be_storable)
Usable = AfterValidator(must_be_usable)
RunName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), Usable]
NameOrNone = Annotated[str, StringConstraints(strip_whitespace=True), Usable]
"""Empty where the lab is to make one up."""
