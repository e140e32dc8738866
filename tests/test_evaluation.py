"""Evaluation: the score of all examples, in batches that fit into the memory."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lab import Lab, quick_config

from trainer.build import build_setup
from trainer.loop import evaluate
from trainer.setup import Setup
from trainer.tasks import TaskData


@pytest.fixture
def data(tmp_path: Path) -> TaskData:
    return quick_config().task.load(Lab.at(tmp_path).settings.data_folders)


@pytest.fixture
def setup(data: TaskData) -> Setup:
    return build_setup(quick_config(), data, torch.device("cpu"))


def let_fit(setup: Setup, most: int) -> list[int]:
    """From here on a batch of more examples is out of memory; the sizes that are tried."""
    tried, forward = [], setup.model.forward

    def limited(inputs: torch.Tensor) -> torch.Tensor:
        tried.append(len(inputs))
        if len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(inputs)

    setup.model.forward = limited  # type: ignore[method-assign]
    return tried


def test_the_score_is_that_of_all_examples_at_once(setup: Setup, data: TaskData) -> None:
    setup.model.eval()
    inputs = (data.test.inputs.double() - data.mean) / data.spread
    with torch.no_grad():
        output = setup.model(inputs.float())
    found = evaluate(setup, data.test)
    assert found.loss == pytest.approx(float(F.cross_entropy(output, data.test.targets)), 1e-5)
    right = output.argmax(1) == data.test.targets
    assert found.metrics.numbers["accuracy"] == float(right.double().mean())


@pytest.mark.parametrize("most", [300, 100, 7, 1])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    setup: Setup, data: TaskData, most: int
) -> None:
    whole = evaluate(setup, data.test)
    setup.evaluation_batch = 512
    tried = let_fit(setup, most)
    score = evaluate(setup, data.test)
    assert score.loss == pytest.approx(whole.loss, 1e-6)
    assert score.metrics.numbers == pytest.approx(whole.metrics.numbers)
    assert score.metrics.details["confusion"] == whole.metrics.details["confusion"]
    assert setup.evaluation_batch <= most
    refused = [size for size in tried if size > most]
    assert sum(tried) - sum(refused) == len(data.test)
    # once is enough to find out
    tried.clear()
    evaluate(setup, data.test)
    assert max(tried) <= most


def test_what_does_not_fit_one_by_one_is_out_of_memory(setup: Setup, data: TaskData) -> None:
    let_fit(setup, 0)
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(setup, data.test)
