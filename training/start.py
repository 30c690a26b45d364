"""What a run starts from: new weights, a pretrained encoder, the weights of a finished run, or those of a bundle.

A bundle is read by its files alone: `manifest.json` names the full-precision model and has the hash of every file.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from training.from_onnx import segmenter_from_onnx
from training.heads import AttentionSkipsHead
from training.pretrain.weights import MANIFEST, read_frame_encoder, read_prior
from training.run import RECORD, WEIGHTS, RunError, load_segmenter, read_run, segmenter_of
from training.segmenter import take_pretrained
from training.videogpt.resnet import CollapsedFrameEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from training.config import HeadName, ModelConfig
    from training.segmenter import Segmenter
    from training.videogpt.resnet import FrameEncoder


class Start(NamedTuple):
    """A network with the weights that it starts from.

    Attributes:
        segmenter: The network.
        parent: The model they are from, for the run's record: `kind` (run or bundle), `name`, of a bundle its
            `version`, and `sha256`: of a bundle's manifest, which is what answers name, or of a run's weights. None
            where no model was trained before.
    """

    segmenter: Segmenter
    parent: dict[str, Any] | None


class _Manifest(BaseModel):
    """The part of a bundle's manifest that it takes to find the weights."""

    name: str
    version: int
    precisions: dict[str, str]
    files: dict[str, str]


def start_of(model: ModelConfig) -> Start:
    """The network as a run starts with it.

    Raises:
        RunError: `init` is neither a finished run nor a bundle, or one of another network.
        ValueError: `pretrained` holds no encoder that fits.
    """
    if model.init:
        return read_start(model.init, model)
    if model.encoder == "transformer" and model.pretrained:
        return Start(segmenter_of(model, read_prior(model.pretrained)), None)
    segmenter = segmenter_of(model)
    if model.pretrained:
        take_pretrained(segmenter, _pretrained_encoder(model.pretrained))
    return Start(segmenter, None)


def _pretrained_encoder(source: Path) -> FrameEncoder:
    if not (source / MANIFEST).is_file():
        return read_frame_encoder(source)
    encoder = _read_bundle(source)[0].encoder
    assert isinstance(encoder, CollapsedFrameEncoder)  # noqa: S101 - bundles hold no other
    return encoder.published()


def read_start(folder: Path, model: ModelConfig) -> Start:
    """Read a run folder or a bundle into a network that is built as `model` says.

    Raises:
        RunError: Neither of them, one that is damaged or not finished, or the weights of another network.
    """
    if (folder / MANIFEST).is_file():
        return _from_bundle(folder, model)
    if (folder / RECORD).is_file():
        parent = {"kind": "run", "name": folder.absolute().name, "sha256": weights_sha256(folder)}
        return Start(load_segmenter(folder, model), parent)
    found = "neither" if folder.is_dir() else "no such folder"
    raise RunError(
        f"{folder}: expected a finished run (with {RECORD}) or a bundle (with {MANIFEST}) to start from, found "
        f"{found}; a bundle is models/<name>/<version>"
    )


def read_network(folder: Path) -> Segmenter:
    """The network of a finished run or of a bundle, whichever it is.

    Raises:
        RunError: Neither of them, or one that is damaged or not finished.
    """
    return _read_bundle(folder)[0] if (folder / MANIFEST).is_file() else load_segmenter(folder)


def refuse_known(model: ModelConfig, held_out: set[str]) -> None:
    """Folds measure on scenes that were never seen, by the weights that a run starts from no more than by the run.

    Args:
        model: What it starts from.
        held_out: The scenes to measure on.

    Raises:
        ValueError: They have been seen, or may have been.
    """
    for start in _generations(model):
        for name, source in (("init", start.init), ("pretrained", start.pretrained)):
            if source is not None and (source / MANIFEST).is_file():
                raise ValueError(
                    f"{source}: expected weights that have learned from none of the scenes held out, found a bundle, "
                    "which does not say: start folds from a pretrained encoder, or from a run on other data "
                    f"(--model.{name})"
                )
    for run, known in known_scenes(model, held_out).items():
        raise ValueError(
            f"{run}: expected weights that have learned from none of the scenes held out, found "
            f"{len(known)} of them in its training, such as {min(known)}: start from a run on other data"
        )


def known_scenes(model: ModelConfig, held_out: set[str]) -> dict[Path, set[str]]:
    """From which of the scenes held out each run has learned that a run starts from; bundles do not say."""
    runs = [start.init for start in _generations(model) if start.init and (start.init / RECORD).is_file()]
    found = {run: held_out & set(read_run(run).record["split"]["train"]) for run in runs}
    return {run: known for run, known in found.items() if known}


def _generations(model: ModelConfig) -> Iterator[ModelConfig]:
    """What a run starts with, what the run that it starts from had started with, and so on."""
    seen: set[Path] = set()
    yield model
    while model.init is not None and model.init not in seen and (model.init / RECORD).is_file():
        seen.add(model.init)
        model = read_run(model.init).config.model
        yield model


class Network(NamedTuple):
    """What `ModelConfig` has to say of a network for a bundle's weights to fit it.

    Attributes:
        layers: Residual blocks in the groups of the encoder.
        head: Its head.
    """

    layers: tuple[int, ...]
    head: HeadName


def bundle_network(folder: Path) -> Network:
    """The network that a bundle holds.

    Raises:
        RunError: No bundle that could be read.
    """
    return network_of(_read_bundle(folder)[0])


def network_of(segmenter: Segmenter) -> Network:
    """The network of a segmenter that was read from a bundle."""
    head: HeadName = "attention-skips" if isinstance(segmenter.head, AttentionSkipsHead) else "attention-conv"
    return Network(layers_of(segmenter), head)


def layers_of(segmenter: Segmenter) -> tuple[int, ...]:
    """Residual blocks in the groups of a frame encoder."""
    groups = [getattr(segmenter.encoder, f"group{group}") for group in (1, 2, 3, 4)]
    return tuple(1 + len(group.blocks) for group in groups)


def _from_bundle(folder: Path, model: ModelConfig) -> Start:
    found, parent = _read_bundle(folder)
    layers, head = network_of(found)
    if (model.encoder, model.head) != ("frame-encoder", head):
        raise RunError(
            f"{folder}: this bundle holds the encoder frame-encoder and the head {head}, expected to start encoder "
            f"{model.encoder} and head {model.head} from it: set --model.head {head} and leave --model.encoder out"
        )
    if layers != model.layers:
        raise RunError(
            f"{folder}: expected an encoder of {list(model.layers)} blocks, found {list(layers)}: "
            f"set --model.layers {' '.join(map(str, layers))}"
        )
    segmenter = segmenter_of(model)
    segmenter.load_state_dict(found.state_dict())
    return Start(segmenter, parent)


def _read_bundle(folder: Path) -> tuple[Segmenter, dict[str, Any]]:
    content = (folder / MANIFEST).read_bytes()
    try:
        manifest = _Manifest.model_validate_json(content)
    except ValidationError as error:
        raise RunError(f"{folder / MANIFEST}: expected a bundle's manifest, found {error}") from error
    name = manifest.precisions.get("fp32", "")
    if "/" in name or "\\" in name or not (folder / name).is_file():
        raise RunError(f"{folder}: expected a bundle with an fp32 model, found {sorted(manifest.precisions)}")
    model = (folder / name).read_bytes()
    _compare(folder / name, hashlib.sha256(model).hexdigest(), manifest.files)
    try:
        segmenter = segmenter_from_onnx(model)
    except ValueError as error:
        raise RunError(f"{folder / name}: its network cannot be rebuilt: {error}") from error
    identity = hashlib.sha256(content).hexdigest()
    return segmenter, {"kind": "bundle", "name": manifest.name, "version": manifest.version, "sha256": identity}


def _compare(file: Path, found: str, promised: Mapping[str, str]) -> None:
    if found != promised.get(file.name):
        raise RunError(
            f"{file}: expected sha256 {promised.get(file.name)}, as {MANIFEST} says, found {found}: the file was "
            "changed or damaged; copy the bundle again"
        )


def weights_sha256(run: Path) -> str:
    """The hash of a finished run's weights."""
    with (run / WEIGHTS).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
