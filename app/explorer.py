"""Explored: a network as a tree of rows, what it takes, and what recording chosen layers costs."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from app import forms
from app.explorer_form import FREEZE, FREEZE_ON, PICK, RECORDED, ExplorerForm
from trainer.anatomy import Examined, LayerFacts, chosen_layers, examined, matching
from trainer.check import shown, unknown_layer
from trainer.config import Recording
from trainer.part import Refused
from trainer.recipes import RECIPES
from trainer.recording_cost import (
    FLOAT_BYTES,
    RecordingCost,
    kept_bytes,
    output_bytes,
    recording_cost,
    told_early,
)
from trainer.tricks import Freeze

MOST_OPEN = 60
"""A tree of more layers begins closed."""
BAR_PARTS = 20


@dataclass(frozen=True)
class Row:
    """One layer of the tree; of a container with all that is inside."""

    layer: LayerFacts
    name: str
    parameters: int
    parameter_bar: int
    """Its share of all, in twentieths; 1 for anything that is not nothing."""
    flops: int | None
    flop_bar: int
    frozen: str
    """frozen, partly frozen, or nothing."""
    kept: int
    """Bytes at a look."""
    other_outputs: str
    """What each call gives for one example, where one number of sizes does not tell it."""
    is_found: bool
    is_ticked: bool
    by_pattern: bool
    is_open: bool
    is_folded: bool
    """Whether a container above it is closed."""


@dataclass(frozen=True)
class Totals:
    """A network as a whole."""

    layers: int
    parameters: int
    trainable: int
    flops: int
    uncounted: Sequence[str]
    """Kinds of layers whose operations nobody counted."""
    output_shape: tuple[int, ...] | None
    weight_bytes: int
    batch_bytes: int
    """Outputs of all layers without layers inside, for a batch, as float32."""


@dataclass(frozen=True)
class Chosen:
    """A layer that would be recorded."""

    layer: LayerFacts
    kept: int
    whole: int
    """Its whole output for a batch, as float32."""


@dataclass(frozen=True)
class Explored:
    """What the page shows; without a tree where the network could not be built."""

    form: ExplorerForm
    errors: Mapping[str, str]
    rows: Sequence[Row] = ()
    totals: Totals | None = None
    found: int | None = None
    """How many layers the search found; None where nothing is searched for."""
    searched: tuple[str, ...] = ()
    """Patterns that were searched for and are not recorded yet."""
    chosen: Sequence[Chosen] = ()
    cost: RecordingCost | None = None
    early: str = ""
    lost: Sequence[str] = ()
    """Ticked layers that this network does not have."""
    new_run: str = ""
    """The address of a new run with all this filled in."""
    snippet: str = ""


def explored(form: ExplorerForm) -> Explored:
    """The network that a form asks for, and its layers."""
    errors = dict(form.errors)
    found = network_of(form, errors)
    if found is None:
        return Explored(form, errors)
    frozen = frozen_paths(form.freeze, found, errors)
    paths = {layer.path for layer in found.layers}
    lost = [pick for pick in form.picks if pick not in paths]
    form = replace(form, picks=tuple(pick for pick in form.picks if pick in paths))
    for pattern in form.patterns:
        if not matching(found.layers, pattern):
            # a word that is no pattern at all was told already
            errors.setdefault("recording.layers", unknown_layer(pattern, found.layers))
    hits = search(found.layers, form.wanted.find if form.wanted else "")
    return with_cost(
        Explored(
            form,
            errors,
            rows=rows_of(form, found.layers, frozen, hits),
            totals=totals_of(form, found, frozen),
            found=None if hits is None else len(hits),
            searched=new_patterns(form),
            lost=lost,
        ),
        found.layers,
    )


def network_of(form: ExplorerForm, errors: dict[str, str]) -> Examined | None:
    """The network, or None: then what is wrong stands among the errors."""
    if form.model is None or form.wanted is None or any(name.startswith("task") for name in errors):
        return None
    try:
        shape = form.input_shape
    except Refused as refusal:
        errors["shape"] = str(refusal)
        return None
    try:
        return examined(form.model, shape, form.outputs)
    except Refused as refusal:
        errors["model.name"] = str(refusal)
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        errors["model.name"] = (
            f"{form.chosen('model')} cannot compute with inputs of {shown(shape)}: {said}; choose "
            "another shape or model"
        )
    return None


def frozen_paths(freeze: Freeze | None, found: Examined, errors: dict[str, str]) -> Collection[str]:
    """The layers with tensors that the trick would freeze."""
    if freeze is None:
        return frozenset()
    try:
        return freeze.frozen(found.network).keys()
    except Refused as refusal:
        errors[FREEZE] = str(refusal)
        return frozenset()


# -- the search -----------------------------------------------------------------------------


def patterns_in(text: str) -> tuple[str, ...]:
    """The words with wildcards."""
    return tuple(word for word in text.replace(",", " ").split() if set(word) & set("*?["))


def new_patterns(form: ExplorerForm) -> tuple[str, ...]:
    """Those searched for that are not recorded already."""
    text = form.wanted.find if form.wanted else ""
    return tuple(one for one in patterns_in(text) if one not in form.patterns)


def search(layers: Sequence[LayerFacts], text: str) -> set[str] | None:
    """The paths that have all plain words in name or kind and match one of the patterns.

    None where nothing is searched for.
    """
    words = text.replace(",", " ").split()
    if not words:
        return None
    patterns = patterns_in(text)
    plain = [word.lower() for word in words if word not in patterns]
    hits = {layer.path for pattern in patterns for layer in matching(layers, pattern)}
    return {
        layer.path
        for layer in layers
        if (layer.path in hits or not patterns)
        and all(word in f"{layer.path} {layer.kind}".lower() for word in plain)
    }


def above(path: str) -> list[str]:
    """The containers that a layer lies in, the innermost first."""
    found = []
    while path := path.rpartition(".")[0]:
        found.append(path)
    return found


# -- the tree -------------------------------------------------------------------------------


def rows_of(
    form: ExplorerForm,
    layers: Sequence[LayerFacts],
    frozen: Collection[str],
    hits: set[str] | None,
) -> list[Row]:
    """The rows in the network's order; of a search what it found and what that lies in."""
    parameters = summed(layers, {layer.path: layer.parameters for layer in layers})
    flops = summed(layers, {layer.path: layer.flops or 0 for layer in layers})
    still = summed(
        layers, {layer.path: layer.parameters * is_frozen(layer, frozen) for layer in layers}
    )
    whole = sum(layer.parameters for layer in layers)
    all_flops = sum(layer.flops or 0 for layer in layers)
    named = {layer.path for layer in chosen_layers(layers, form.patterns)}
    ticked = set(form.picks)
    shown = None if hits is None else hits | {one for path in hits for one in above(path)}
    begins_open = shown is not None or len(layers) <= MOST_OPEN
    opened = {one for path in ticked for one in above(path)}
    examples = examples_of(form)
    closed: set[str] = set()
    rows = []
    for layer in layers:
        path = layer.path
        if shown is not None and path not in shown:
            continue
        own = parameters[path]
        is_folded = path.rpartition(".")[0] in closed
        is_open = begins_open or path in opened
        if is_folded or not (is_open or layer.is_leaf):
            closed.add(path)
        rows.append(
            Row(
                layer=layer,
                name=path.rpartition(".")[2],
                parameters=own,
                parameter_bar=bar(own, whole),
                flops=None if layer.is_leaf and layer.flops is None else flops[path],
                flop_bar=bar(flops[path], all_flops),
                frozen=state(still[path], own),
                kept=kept_bytes(layer, examples),
                other_outputs=other_outputs(layer),
                is_found=hits is not None and path in hits,
                is_ticked=path in ticked,
                by_pattern=path in named,
                is_open=is_open,
                is_folded=is_folded,
            )
        )
    return rows


def summed(layers: Sequence[LayerFacts], own: Mapping[str, int]) -> dict[str, int]:
    """Of each layer its own and that of all layers inside it."""
    sums = dict(own)
    for layer in reversed(layers):
        outer = layer.path.rpartition(".")[0]
        if outer:
            sums[outer] += sums[layer.path]
    return sums


def other_outputs(layer: LayerFacts) -> str:
    """The outputs of a layer whose calls differ, or that has more than one row for an example."""
    shapes = set(layer.outputs)
    if all(shape[:1] == (1,) for shape in shapes) and len(shapes) < 2:
        return ""
    return ", ".join(shown(shape) for shape in layer.outputs)


def is_frozen(layer: LayerFacts, frozen: Collection[str]) -> bool:
    return layer.path in frozen or not layer.trainable


def state(still: int, parameters: int) -> str:
    if not still:
        return ""
    return "frozen" if still == parameters else "partly frozen"


def bar(part: int, whole: int) -> int:
    """A share of the whole in twentieths."""
    return max(1, round(BAR_PARTS * part / whole)) if part else 0


def examples_of(form: ExplorerForm) -> int:
    wanted = (form.recording or Recording()).layer_examples
    return min(wanted, form.task.facts().test_examples) if form.task else wanted


def totals_of(form: ExplorerForm, found: Examined, frozen: Collection[str]) -> Totals:
    assert form.wanted is not None
    layers = found.layers
    parameters = sum(layer.parameters for layer in layers)
    return Totals(
        layers=len(layers),
        parameters=parameters,
        trainable=sum(layer.parameters for layer in layers if not is_frozen(layer, frozen)),
        flops=sum(layer.flops or 0 for layer in layers),
        uncounted=sorted({layer.kind for layer in layers if layer.flops is None}),
        output_shape=found.output_shape,
        weight_bytes=FLOAT_BYTES * parameters,
        batch_bytes=sum(output_bytes(one, form.wanted.batch) for one in layers if one.is_leaf),
    )


# -- recording ------------------------------------------------------------------------------


def with_cost(explored: Explored, layers: Sequence[LayerFacts]) -> Explored:
    """The same, with the layers that would be recorded and what they cost."""
    form = explored.form
    if form.recording is None or form.wanted is None:
        return explored
    recording = form.recording.model_copy(update={"layers": (*form.patterns, *form.picks)})
    found = chosen_layers(layers, recording.layers)
    cost = recording_cost(
        recording,
        found,
        form.input_shape,
        steps=form.wanted.steps,
        batch_size=form.wanted.batch,
        test_examples=form.task.facts().test_examples if form.task else None,
    )
    batch = form.wanted.batch
    return replace(
        explored,
        chosen=[
            Chosen(one, kept_bytes(one, cost.examples), output_bytes(one, batch)) for one in found
        ],
        cost=cost,
        early=told_early(cost, recording, form.wanted.steps),
        new_run=new_run(form, recording),
        snippet=snippet(recording),
    )


def new_run(form: ExplorerForm, recording: Recording) -> str:
    """The address of a new run of this model with these layers."""
    assert form.model is not None
    fields = {"model.name": form.chosen("model")}
    fields |= forms.variant_values("model", form.model.model_dump(mode="json"))
    if form.task:
        fields |= {"task.name": form.chosen("task"), "recipe": fitting_recipe(form)}
        fields |= forms.variant_values("task", form.task.model_dump(mode="json"))
    for name in RECORDED:
        if name != "layers":
            fields[f"recording.{name}"] = forms.typed(getattr(recording, name))
    if form.freeze:
        fields |= {FREEZE_ON: "on", FREEZE: form.freeze.layers}
    fields["layers"] = " ".join(recording.layers)
    return f"/runs/new?{urlencode(fields)}"


def fitting_recipe(form: ExplorerForm) -> str:
    """The first recipe for the task, if there is one also for the model."""
    of_task = {
        name: one.config
        for name, one in RECIPES.items()
        if one.config.task.name == form.chosen("task")
    }
    for name, config in of_task.items():
        if config.model.name == form.chosen("model"):
            return name
    return next(iter(of_task), next(iter(RECIPES)))


def snippet(recording: Recording) -> str:
    """The same as a part of a config."""
    own = recording.model_dump(mode="json", include=set(RECORDED))
    return json.dumps({"recording": own}, indent=2)


def with_pattern(form: ExplorerForm, patterns: Sequence[str]) -> str:
    """This page's address with patterns added to those recorded."""
    layers = " ".join(dict.fromkeys((*form.patterns, *patterns)))
    fields = [*{**form.values, "recording.layers": layers}.items()]
    return f"/lab/layers?{urlencode([*fields, *((PICK, pick) for pick in form.picks)])}"
