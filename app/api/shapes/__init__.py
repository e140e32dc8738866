"""Shapes: what each answer of the API contains, for its documentation.

The answers are sent without passing through these classes; the tests hold them against each
other.
"""

from app.api.shapes.access import Audit, AuditLine, Me, Token, TokenMade, Tokens
from app.api.shapes.catalogue import (
    Checked,
    Claim,
    Facts,
    FieldError,
    Loss,
    Model,
    ModelSize,
    Part,
    Recipe,
    Recipes,
    Task,
    Trick,
)
from app.api.shapes.inquiry import Inquiries, Inquiry
from app.api.shapes.layer import (
    Features,
    Layer,
    LayerDifference,
    LayerOutput,
    Layers,
    RecordedLayer,
    RecordedLayers,
    RecordingCost,
)
from app.api.shapes.queue import Queue, Waiting, Worker, Workers
from app.api.shapes.run import (
    Checkpoint,
    Checkpoints,
    Event,
    Events,
    Log,
    PartialRunPage,
    Run,
    RunPage,
)
from app.api.shapes.series import Curve, Curves, Points, SeriesList, Summary
from app.api.shapes.shape import Document, Moment, Number, Shape
from app.api.shapes.storage import Freed, LargeRun, Storage, Taken

__all__ = [
    "Audit",
    "AuditLine",
    "Checked",
    "Checkpoint",
    "Checkpoints",
    "Claim",
    "Curve",
    "Curves",
    "Document",
    "Event",
    "Events",
    "Facts",
    "Features",
    "FieldError",
    "Freed",
    "Inquiries",
    "Inquiry",
    "LargeRun",
    "Layer",
    "LayerDifference",
    "LayerOutput",
    "Layers",
    "Log",
    "Loss",
    "Me",
    "Model",
    "ModelSize",
    "Moment",
    "Number",
    "Part",
    "PartialRunPage",
    "Points",
    "Queue",
    "Recipe",
    "Recipes",
    "RecordedLayer",
    "RecordedLayers",
    "RecordingCost",
    "Run",
    "RunPage",
    "SeriesList",
    "Shape",
    "Storage",
    "Summary",
    "Taken",
    "Task",
    "Token",
    "TokenMade",
    "Tokens",
    "Trick",
    "Waiting",
    "Worker",
    "Workers",
]
