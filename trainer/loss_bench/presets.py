"""Presets: the examples of the founding notes and sheets, ready to be played with."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Values of a bench loss as they are typed, and what they show."""

    name: str
    title: str
    note: str
    """The section of the founding notes it is from."""
    shows: str
    loss: str
    values: Mapping[str, str]


L1_INPUT = (
    "0.6793,1.8591,-1.1041,-0.1995;0.2771,-0.8312,0.1774,-0.7146;0.5816,-0.1780,-1.5800,-0.9133"
)
L1_TARGET = (
    "1.2876,0.2281,1.0222,-0.4885;-0.1980,-0.7899,-1.8150,0.1471;-1.5262,-0.5305,-0.4179,-0.2347"
)
SMOOTH_INPUT = (
    "-0.2866,-0.6683,0.2946,-0.8280;0.0132,-0.0168,-0.1908,0.9864;-0.6769,-0.1438,-1.4344,1.3525"
)
SMOOTH_TARGET = (
    "0.1833,0.2032,0.3971,0.5473;0.8244,1.0036,0.7856,-2.5749;-0.2325,-0.1510,-0.1874,-1.5165"
)
SCORES = "2,0.5,-1,0.1,0.3;0.2,1.5,0.3,-0.7,1;-0.4,0.9,0.1,0.6,2.2"
LOG_SOFTMAX = (
    "-0.4732,-1.9732,-3.4732,-2.3732,-2.1732;-2.1290,-0.8290,-2.0290,-3.0290,-1.3290;"
    "-3.1135,-1.8135,-2.6135,-2.1135,-0.5135"
)
DIVERGENT = {
    "input": "-1.38,-2.52,-2,-4.07,-1.96,-2.05,-2.67,-3,-2.94,-2.61;"
    "-1.67,-2.27,-2.08,-3.26,-1.07,-2.93,-2.9,-3.36,-3.32,-3.88",
    "target": "0.17,0.16,0.08,0.07,0.07,0.08,0.22,0.05,0.08,0.02;"
    "0.05,0.09,0.15,0.09,0.02,0.11,0.1,0.03,0.05,0.31",
}
OLD_NONE = {"size_average": "off", "reduce": "off"}

PRESETS: tuple[Preset, ...] = (
    Preset(
        "old-flags", "size_average=False beside mean", "3",
        "The old flag wins silently: the sum comes out.",
        "mse",
        {
            "input": "0.5,1;-1.5,3", "target": "1,1;0.5,-1",
            "reduction": "mean", "size_average": "off",
        },
    ),
    Preset(
        "l1-of-the-notes", "L1, the printed tensors", "3.1",
        "The three tensors that the note prints.",
        "l1", {"input": L1_INPUT, "target": L1_TARGET, **OLD_NONE},
    ),
    Preset(
        "smooth-l1-of-the-notes", "Smooth L1, the printed tensors", "3.2",
        "The three tensors that the note prints.",
        "smooth_l1", {"input": SMOOTH_INPUT, "target": SMOOTH_TARGET, **OLD_NONE},
    ),
    Preset(
        "huber-is-smooth-l1", "Huber with delta 2", "3.2",
        "Smooth L1 with beta is Huber with the same delta, divided by it.",
        "huber", {"input": SMOOTH_INPUT, "target": SMOOTH_TARGET, "delta": "2"},
    ),
    Preset(
        "column-against-row", "A column against a row", "3.3",
        "(3, 1) against (3,): what PyTorch would make of it.",
        "mse", {"input": "0;1;2", "target": "0,1,2"},
    ),
    Preset(
        "bce-class-weights", "BCE with weight[target]", "3.4",
        "Ten times for a yes; the mean still divides by the number of elements.",
        "bce",
        {
            "input": "0.9,0.2,0.6,0.4;0.1,0.7,0.3,0.05;0.5,0.8,0.25,0.6",
            "target": "1,0,0,1;0,0,0,0;0,1,0,0",
            "weight_by_target": "1 10",
        },
    ),
    Preset(
        "bce-of-200", "BCE of sigmoid(200)", "3.5",
        "The sigmoid is exactly 1, and the loss stops at 100.",
        "bce", {"input": "1;0.5", "target": "0;0"},
    ),
    Preset(
        "logits-of-200", "The same with logits", "3.5",
        "The score itself: 200, and a gradient of 1.",
        "bce_with_logits", {"input": "200;0", "target": "0;0"},
    ),
    Preset(
        "cross-entropy-weights", "Cross-entropy, weights 1 2 1 1 10", "3.6",
        "The mean divides by the weights of the targets that are there.",
        "cross_entropy",
        {"input": SCORES, "target": "0,1,4", "weight": "1 2 1 1 10"},
    ),
    Preset(
        "cross-entropy-probabilities", "The same, probability targets", "3.6",
        "The same three classes as probabilities: now it divides by 3.",
        "cross_entropy",
        {"input": SCORES, "target": "1,0,0,0,0;0,1,0,0,0;0,0,0,0,1", "weight": "1 2 1 1 10"},
    ),
    Preset(
        "all-ignored", "A batch of ignored targets", "3.6",
        "0 / 0: NaN, and no error.",
        "cross_entropy", {"input": SCORES, "target": "2,2,2", "ignore_index": "2"},
    ),
    Preset(
        "nll-is-cross-entropy", "NLL on log-softmax", "3.7",
        "The scores of the cross-entropy preset after log_softmax: the same loss.",
        "nll", {"input": LOG_SOFTMAX, "target": "0,1,4", "weight": "1 2 1 1 10"},
    ),
    Preset(
        "nll-over-pixels", "NLL over pixels, once NLLLoss2d", "3.8",
        "Scores (N, C, H, W) against classes (N, H, W).",
        "nll",
        {
            "input": "-0.36,-1.2;-2.3,-0.51|-1.61,-0.69;-0.36,-1.61|-2.3,-1.61;-1.61,-1.61/",
            "target": "0,1;1,2|",
        },
    ),
    Preset(
        "divergence-mean", "KLDiv, mean or batchmean", "3.9",
        "0.0617 by mean, 0.617 by batchmean: ten classes, ten times.",
        "kl_div", {**DIVERGENT, "reduction": "mean"},
    ),
)  # fmt: skip
