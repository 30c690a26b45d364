"""Which model is in service: choose a version, believe it only after its self-test, and hold it in one slot."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from service.answers import ModelNote
from service.contract import Bundle, BundleInvalid, Manifest, Metric, Precision, model_names, open_bundle, versions
from service.engine import Engine, Provider, Wanted, bucket_sizes, open_engine, self_test, warm_up
from service.errors import ModelUnknown, NotReady, StartFailed, quoted
from service.gpu_options import ANY_GPU, GpuOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["ModelList", "Models", "Opener", "Slot", "VersionState"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """A model that may serve: its bundle has been verified and its engine has answered the golden frames right."""

    bundle: Bundle
    engine: Engine
    load_s: float

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @cached_property
    def note(self) -> ModelNote:
        """Name, version and hash, for answers."""
        return ModelNote(name=self.manifest.name, version=self.manifest.version, sha256=self.bundle.sha256)


@dataclass(frozen=True)
class Opener:
    """How bundles are opened: on which device, in which precision, and how many frames a run may have."""

    provider: Literal["auto", "cuda", "tensorrt", "cpu"]
    precision: Precision | None
    intra_op_threads: int
    max_batch: int | None
    gpu: GpuOptions = ANY_GPU

    def open(self, folder: Path) -> Slot:
        """Verify a bundle, open its model, test it against the golden frames and warm it up.

        Raises:
            BundleInvalid: The bundle is not as promised, or its model does not answer as it should.
            ProviderMissing: The device is not there.
        """
        started = time.perf_counter()
        bundle = open_bundle(folder)
        wanted = Wanted(self.provider, self.precision, self.intra_op_threads, self.max_batch, self.gpu)
        engine = open_engine(bundle, wanted)
        try:
            difference = self_test(engine, bundle.golden())
        except BundleInvalid as error:
            raise BundleInvalid(f"{folder}: {error}") from error
        warm_up(engine, bucket_sizes(engine.max_batch))
        slot = Slot(bundle, engine, time.perf_counter() - started)
        _log.info(
            "model %s version %d is ready in %.2f s: %s on %s (%s), golden frames within %.2g",
            *(bundle.manifest.name, bundle.manifest.version, slot.load_s),
            *(engine.precision, engine.provider, engine.reason, difference),
        )
        return slot


class VersionState(BaseModel):
    """A version in the repository and what it is doing."""

    version: int
    state: Literal["serving", "available", "refused"]
    reason: str | None = None
    sha256: str | None = None
    precision: Precision | None = None
    provider: Provider | None = None
    engine_reason: str | None = None
    threshold: float | None = None
    load_seconds: float | None = None
    metrics: tuple[Metric, ...] | None = None


class ModelList(BaseModel):
    """Answer of `/models`."""

    name: str
    ready: bool
    versions: list[VersionState]


class Models:
    """The versions of one model and the slot that serves.

    Args:
        repository: The model repository.
        name: The model; None for the only one there.
        version: The version; None for the newest that can be opened.
        opener: How a version is opened.

    Raises:
        StartFailed: There is no such model or version, or no way to tell which model is meant.
    """

    def __init__(self, repository: Path, name: str | None, version: int | None, opener: Opener) -> None:
        self._repository = repository
        self._opener = opener
        self.name = name or _only_model(repository)
        self._candidates = _candidates(repository, self.name, version)
        self._refused: dict[int, str] = {}
        self._slot: Slot | None = None
        self._draining = False

    def load(self) -> Slot:
        """Put the first candidate into service that can be opened. Takes seconds; call it from a thread.

        Raises:
            StartFailed: None can, each for its reason; or the device is not there.
        """
        for version in self._candidates:
            try:
                self._slot = self._opener.open(self._repository / self.name / str(version))
            except BundleInvalid as error:
                _log.error("version %d of %s is refused: %s", version, self.name, error)
                self._refused[version] = str(error)
            else:
                return self._slot
        raise StartFailed(
            f"expected a valid bundle of {self.name} in {self._repository}, but every one was refused: "
            + "; ".join(f"version {version}: {reason}" for version, reason in self._refused.items())
        )

    def drain(self) -> None:
        """Say to whoever asks that this service is on its way out; requests are still answered."""
        self._draining = True

    def check_ready(self) -> Slot:
        """The slot that serves, if requests should be sent here.

        Raises:
            NotReady: The model is still loading, or the service is stopping.
        """
        if self._draining:
            raise NotReady(
                "expected to go on, but this service is stopping; ask another or come again", reason="stopping"
            )
        return self.slot()

    def slot(self, name: str | None = None, version: int | None = None) -> Slot:
        """The slot that serves, if it is the model that was asked for.

        Raises:
            NotReady: The model is still loading.
            ModelUnknown: Another model or version was asked for.
        """
        slot = self._slot
        if slot is None:
            raise NotReady(
                f"expected a model in service, but {self.name} is still being loaded; come again in a second",
                reason="loading",
            )
        serving = slot.manifest
        if name not in {None, serving.name} or version not in {None, serving.version}:
            asked = quoted(name or serving.name) + (f" version {version}" if version is not None else "")
            raise ModelUnknown(
                f"expected a model in service, which is {serving.name} version {serving.version}, got {asked}; "
                "leave `model` and `version` out, or see /models"
            )
        return slot

    def listing(self) -> ModelList:
        """All versions on disk and in service, newest first."""
        on_disk = versions(self._repository, self.name)
        serving = {self._slot.manifest.version} if self._slot else set()
        every = sorted({*on_disk, *serving}, reverse=True)
        return ModelList(name=self.name, ready=self._slot is not None, versions=[self._state(v) for v in every])

    def _state(self, version: int) -> VersionState:
        slot = self._slot
        if slot is not None and slot.manifest.version == version:
            return VersionState(
                version=version,
                state="serving",
                sha256=slot.bundle.sha256,
                precision=slot.engine.precision,
                provider=slot.engine.provider,
                engine_reason=slot.engine.reason,
                threshold=slot.manifest.threshold,
                load_seconds=round(slot.load_s, 3),
                metrics=slot.manifest.metrics,
            )
        if version in self._refused:
            return VersionState(version=version, state="refused", reason=self._refused[version])
        return VersionState(version=version, state="available")


def _only_model(repository: Path) -> str:
    names = model_names(repository)
    if len(names) == 1:
        return names[0]
    if not names:
        raise StartFailed(
            f"expected a model repository with <model>/<version>/manifest.json in {repository.absolute()}, found "
            f"{'no model' if repository.is_dir() else 'no such folder'}; publish one with `robomask export`, "
            "or say with --models (ROBOMASK_MODELS) where it is"
        )
    raise StartFailed(
        f"expected one model in {repository.absolute()}, found {', '.join(names)}; "
        "say with --model (ROBOMASK_MODEL) which to serve"
    )


def _candidates(repository: Path, name: str, version: int | None) -> Sequence[int]:
    there = versions(repository, name)
    wanted = [v for v in reversed(there) if version in {None, v}]
    if wanted:
        return wanted
    raise StartFailed(
        f"expected {'a version' if version is None else f'version {version}'} of {name!r} in "
        f"{repository.absolute()}, found {', '.join(map(str, there)) or 'none'}; models there: "
        f"{', '.join(model_names(repository)) or 'none'}"
    )
