"""`manifest.json`: what a bundle says of itself, and the rules it has to keep to be believed."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from service.contract.tensors import INPUTS, OUTPUTS, TensorSpec

__all__ = [
    "CARD",
    "EXAMPLE",
    "GOLDEN",
    "SCHEMA_VERSION",
    "Ancestor",
    "Comparison",
    "DataSource",
    "Lineage",
    "Manifest",
    "Metric",
    "ModelName",
    "Precision",
    "Sha256",
    "Tensors",
]

SCHEMA_VERSION: Final = 1
GOLDEN: Final = "golden.npz"
CARD: Final = "card.md"
EXAMPLE: Final = "example.png"

Precision = Literal["fp32", "fp16", "int8"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""A model's name: a folder's name, a metric's label and part of an address all at once."""

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$")]
"""A plain name inside the bundle's folder: no separator, no leading dot, so neither `..` nor an absolute path."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tensors(_Part):
    """Inputs and outputs of the graph."""

    inputs: tuple[TensorSpec, ...] = INPUTS
    outputs: tuple[TensorSpec, ...] = OUTPUTS


class Metric(_Part):
    """One measured number and the data it was measured on."""

    name: str
    value: float
    data: str
    split: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    precision: Precision | None = None


class DataSource(_Part):
    """A data set that the model has seen in training, by the hash of its content."""

    name: str
    sha256: Sha256


class Ancestor(_Part):
    """A run or a bundle that the model comes from.

    Attributes:
        kind: Which of them.
        name: The run folder's or the model's name.
        version: A bundle's.
        sha256: Of a bundle's `manifest.json`, which answers name as `X-Model-Sha256`; of a run's `run.json` as the
            run that made the model, and of its weights as the run that this one started from.
    """

    kind: Literal["run", "bundle"]
    name: str
    version: int | None = None
    sha256: Sha256


class Lineage(_Part):
    """Where the model comes from: enough to train it again.

    Attributes:
        command: The command that trained it.
        created: When that ended.
        seed: Of all that was drawn.
        code_revision: The commit.
        data: What it has seen.
        config: Everything that the run was told.
        run: The run, whose folder has the whole record.
        parent: The model whose weights the run started from; none if it started from none.
    """

    command: str
    created: AwareDatetime
    seed: int | None = None
    code_revision: str | None = None
    data: tuple[DataSource, ...] = ()
    config: dict[str, JsonValue] = {}
    run: Ancestor | None = None
    parent: Ancestor | None = None


class Comparison(_Part):
    """The model beside the one that was in service before it, on the same frames, image by image.

    Attributes:
        against: The other's name, version and hash.
        data: The data set.
        n: Frames that both were measured on.
        left_out: Frames of it that one of them has learned from, or that are of the same scene as such a frame.
        other_data_known: Whether it is known of both which frames they have learned from; if not, some of the `n` may
            be among those.
        precision: Which of the model's files; the other's is the one in service.
        iou: Mean IoU with the labels.
        iou_before: The other's.
        standard_error: Of the mean difference of both.
        better: Frames on which this model is better.
        worse: Frames on which it is worse.
        tolerance: How much worse it was allowed to be in the mean.
    """

    against: Ancestor
    data: str
    n: Annotated[int, Field(ge=1)]
    left_out: Annotated[int, Field(ge=0)]
    other_data_known: bool
    precision: Precision
    iou: float
    iou_before: float
    standard_error: float
    better: int
    worse: int
    tolerance: float


class Manifest(_Part):
    """A bundle's manifest. `files` holds the sha256 of every other file of the bundle."""

    schema_version: Literal[1]
    name: ModelName
    version: Annotated[int, Field(ge=1)]
    tensors: Tensors
    precisions: Annotated[dict[Precision, FileName], Field(min_length=1)]
    default_precision: Precision
    threshold: Annotated[float, Field(gt=0, lt=1)]
    metrics: tuple[Metric, ...]
    lineage: Lineage
    comparison: Comparison | None = None
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.tensors.inputs, self.tensors.outputs) != (INPUTS, OUTPUTS):
            wanted, got = ("; ".join(map(str, specs)) for specs in ((*INPUTS, *OUTPUTS), self._specs()))
            raise ValueError(f"expected the tensors {wanted}; got {got}")
        if self.default_precision not in self.precisions:
            raise ValueError(
                f"expected default_precision to be one of {sorted(self.precisions)}, got {self.default_precision!r}"
            )
        missing = {GOLDEN, CARD, EXAMPLE, *self.precisions.values()} - self.files.keys()
        if missing:
            raise ValueError(f"expected a sha256 in `files` for {sorted(missing)}, got {sorted(self.files)}")
        return self

    def _specs(self) -> tuple[TensorSpec, ...]:
        return (*self.tensors.inputs, *self.tensors.outputs)


def is_model_name(text: str) -> bool:
    """Whether a model may bear this name.

    >>> is_model_name("robomask-7"), is_model_name("../etc")
    (True, False)
    """
    return re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", text) is not None
