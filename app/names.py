"""Readable names of runs: an adjective, an animal, and the run's number."""

from trainer.streams import stream_seed

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


def readable_name(run_id: int) -> str:
    """A name such as quiet-otter-42; the number keeps it unique."""
    number = stream_seed(run_id, "name")
    adjective = ADJECTIVES[number % len(ADJECTIVES)]
    animal = ANIMALS[number // len(ADJECTIVES) % len(ANIMALS)]
    return f"{adjective}-{animal}-{run_id}"
