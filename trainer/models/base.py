"""Model: a network a person can choose, as data that can build it."""

from torch import nn

from trainer.part import Part


class Model(Part):
    """The shape of a network. `build` gives a fresh one with random weights."""

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """A network from inputs (N, *input_shape) to scores (N, outputs).

        Draws its weights from torch's process-wide generator. Raises Refused when the input
        does not fit.
        """
        raise NotImplementedError
