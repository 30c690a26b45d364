"""The bundle contract: what export writes and the service accepts. Needs numpy and pydantic, nothing else."""

from service.contract.bundle import (
    MANIFEST,
    Bundle,
    BundleInvalid,
    file_limit,
    model_names,
    open_bundle,
    publish,
    read_manifest,
    versions,
)
from service.contract.golden import Golden
from service.contract.manifest import (
    CARD,
    EXAMPLE,
    GOLDEN,
    SCHEMA_VERSION,
    DataSource,
    Lineage,
    Manifest,
    Metric,
    Precision,
    Tensors,
)
from service.contract.tensors import FRAME_SIZE, FRAMES, INPUTS, LATENTS, OUTPUTS, PROBABILITY, TensorSpec

__all__ = [
    "CARD",
    "EXAMPLE",
    "FRAMES",
    "FRAME_SIZE",
    "GOLDEN",
    "INPUTS",
    "LATENTS",
    "MANIFEST",
    "OUTPUTS",
    "PROBABILITY",
    "SCHEMA_VERSION",
    "Bundle",
    "BundleInvalid",
    "DataSource",
    "Golden",
    "Lineage",
    "Manifest",
    "Metric",
    "Precision",
    "TensorSpec",
    "Tensors",
    "file_limit",
    "model_names",
    "open_bundle",
    "publish",
    "read_manifest",
    "versions",
]
