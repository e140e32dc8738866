"""The networks a person can choose. A new family is a file here and a name in the union below."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.models.base import Model
from trainer.models.cnn import SmallCnn
from trainer.models.mlp import Mlp
from trainer.models.p3d import P3D
from trainer.models.resnet import ResNet20
from trainer.models.unet import UNet

AnyModel = Annotated[Mlp | SmallCnn | ResNet20 | UNet | P3D, Field(discriminator="name")]
MODELS: tuple[type[Model], ...] = get_args(get_args(AnyModel)[0])

__all__ = ["MODELS", "P3D", "AnyModel", "Mlp", "Model", "ResNet20", "SmallCnn", "UNet"]
