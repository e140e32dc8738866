"""The numbers of one element as its formula takes them."""

from collections.abc import Mapping
from typing import Any

import torch

from trainer.loss_bench.bench import Found
from trainer.loss_bench.curve import one_place


def put_in(found: Found) -> Mapping[str, Any]:
    """What stands for each letter of the formula at the chosen element, and its value."""
    row, target, arguments = one_place(found)
    family = found.loss.family
    more = class_numbers(found, row, target) if family == "classes" else {}
    weight, yes = (arguments.get(name) for name in ("weight", "pos_weight"))
    numbers: dict[str, Any] = {
        "value": found.value,
        "x": float(found.input.flatten()[found.at]),
        "y": float(target) if target.dim() == 0 else None,
        "w": float(weight) if weight is not None and family == "binary" else 1.0,
        "p": 1.0 if yes is None else float(yes),
        "turn": getattr(found.loss, "beta", getattr(found.loss, "delta", None)),
        "is_log": getattr(found.loss, "log_target", False),
    }
    return numbers | more


def class_numbers(found: Found, row: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
    """Of cross-entropy and NLL: the row's log-probabilities, weights and what is wanted."""
    weights = found.arguments.get("weight", torch.ones(len(row)))
    smoothing = getattr(found.loss, "label_smoothing", 0.0)
    ignored = found.arguments.get("ignore_index", -100)
    if not found.has_probabilities and int(target) == ignored:
        return {"is_ignored": True, "ignored": ignored}
    numbers: dict[str, Any] = {"is_ignored": False, "has_terms": False}
    if found.has_probabilities or smoothing:
        log_softmax = row.log_softmax(0)
        wanted = target if found.has_probabilities else one_hot(int(target), len(row))
        wanted = (1 - smoothing) * wanted + smoothing / len(row)
        terms = zip(weights.tolist(), wanted.tolist(), log_softmax.tolist(), strict=True)
        return numbers | {"has_terms": True, "terms": [one for one in terms if one[1]]}
    label = int(target)
    return numbers | {
        "label": label,
        "w": float(weights[label]),
        "score": float(row[label]),
        "log_sum": float(row.logsumexp(0)),
    }


def one_hot(label: int, classes: int) -> torch.Tensor:
    return (torch.arange(classes) == label).float()
