"""Pipeline: the stations between stored examples and the device, for one way of loading."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.config import RunConfig
from trainer.loader import Loader
from trainer.tasks import TaskFacts

SAMPLERS = {
    "shuffled": "every example once, in a new order each epoch",
    "sequential": "every example once, always as stored",
    "weighted": "drawn with replacement, by the weight of the class",
    "class_balanced": "drawn with replacement, all classes equally often",
}


@dataclass(frozen=True)
class Station:
    """One part of the way: what it does with these options, and their names."""

    title: str
    does: str
    facts: Sequence[str]
    options: Sequence[str] = ()
    """As they would be written in the config."""
    is_idle: bool = False
    """Whether it has nothing to do here."""


def pipeline(config: RunConfig, epoch: int) -> tuple[Station, ...]:
    return tuple(stations(config, config.task.facts(), epoch))


def stations(config: RunConfig, task: TaskFacts, epoch: int) -> Iterator[Station]:
    loader = config.loader
    sizes = " × ".join(map(str, task.input_shape))
    each = f"each {sizes}" if len(task.input_shape) > 1 else f"{sizes} numbers each"
    yield Station(
        "Dataset",
        f"{task.train_examples:,} examples",
        (f"{each}, as stored", config.task.title),
        (f"task={config.task.name}",),
    )
    yield sampler(loader, config.seed, epoch)
    yield batch(loader, task.train_examples)
    yield loading(loader)
    yield pin(loader)
    shift = [one for one in config.tricks if one.name == "random_shift"]
    changed = [f"moved by up to {one.pixels} px, anew each epoch" for one in shift]
    yield Station(
        "Device",
        "made ready for the model",
        ("to float32, mean 0 and spread 1", *changed),
        [f"random_shift.pixels={one.pixels}" for one in shift],
    )


def sampler(loader: Loader, seed: int, epoch: int) -> Station:
    own = loader.order_seed
    drawn = f"drawn from seed {seed if own is None else own} and epoch {epoch} alone"
    options = [f"sampler={loader.sampler}"]
    options += [f"order_seed={own}"] if own is not None else []
    options += ["class_weights"] if loader.class_weights else []
    is_drawn = loader.sampler != "sequential"
    facts = (SAMPLERS[loader.sampler], drawn if is_drawn else "the seed changes nothing")
    return Station("Sampler", loader.sampler.replace("_", " "), facts, options)


def batch(loader: Loader, examples: int) -> Station:
    count, rest = loader.batches_of(examples), examples % loader.batch_size
    if not rest:
        last = "all of one size"
    elif loader.drop_last:
        last = f"{rest:,} examples left out"
    else:
        last = f"the last one has {rest:,}"
    does = f"{count:,} batch{'' if count == 1 else 'es'} of {min(loader.batch_size, examples):,}"
    options = (f"batch_size={loader.batch_size}", f"drop_last={loader.drop_last}")
    return Station("Batch", does, (last,), options)


def loading(loader: Loader) -> Station:
    """Where examples are fetched and collated."""
    if not loader.workers:
        return Station(
            "Collate",
            "in the training process",
            ("examples that fit stay on the device, and a batch is picked there",),
            ("workers=0",),
        )
    ahead = loader.workers * loader.prefetch
    kept = "stay" if loader.persistent_workers else "start anew"
    facts = [f"{ahead} batches ready ahead", f"processes {kept} from epoch to epoch"]
    facts += [] if loader.in_order else ["whichever is ready first comes first"]
    options = [f"workers={loader.workers}", f"prefetch={loader.prefetch}"]
    options += [f"persistent_workers={loader.persistent_workers}", f"in_order={loader.in_order}"]
    options += [f"timeout={loader.timeout:g}"] if loader.timeout else []
    way = loader.multiprocessing_context
    options += [f"multiprocessing_context={way}"] if way else []
    many = f"{loader.workers} loader process{'' if loader.workers == 1 else 'es'}"
    return Station("Collate", f"by {many}", facts, options)


def pin(loader: Loader) -> Station:
    if loader.pin_memory:
        return Station(
            "Pin",
            "page-locked memory",
            ("copies to a CUDA device run beside the training; elsewhere nothing is pinned",),
            ("pin_memory=True",),
        )
    return Station("Pin", "not pinned", ("a copy holds up the host",), ("pin_memory=False",), True)
