"""A model that may serve, and how a bundle becomes one."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from service.contract import Bundle, BundleInvalid, Golden, Manifest, Precision, open_bundle
from service.engine import Engine, Wanted, bucket_sizes, open_engine, self_test, warm_up
from service.engine.gpu_options import ANY_GPU, GpuOptions
from service.errors import ModelFault
from service.machine.background import at_once
from service.versions.note import ModelNote

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from service.machine.background import Pace

__all__ = ["Opener", "Slot"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Slot:
    """A model that may serve: its bundle has been verified and its engine has answered the golden frames right.

    Attributes:
        bundle: The bundle; its folder may be gone by now.
        engine: Runs it.
        load_s: Seconds that opening it took.
        golden: The first golden frame and what is expected for it.
    """

    bundle: Bundle
    engine: Engine
    load_s: float
    golden: Golden

    @property
    def example(self) -> NDArray[np.uint8]:
        """The first golden frame, uint8 [64,64,3]."""
        frame: NDArray[np.uint8] = self.golden.frames[0]
        return frame

    @cached_property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @cached_property
    def version(self) -> int:
        """The bundle's version."""
        return self.bundle.manifest.version

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
    alone_threads: int = 1

    def open(self, folder: Path, pace: Pace = at_once) -> Slot:
        """Verify a bundle, open its model, test it against the golden frames and warm it up.

        Args:
            folder: The bundle's.
            pace: How the heavy pieces of it are done.

        Raises:
            BundleInvalid: The bundle is not as promised, or its model does not answer as it should.
            ProviderMissing: The device is not there.
        """
        started = time.perf_counter()
        bundle = open_bundle(folder)
        wanted = Wanted(
            self.provider, self.precision, self.intra_op_threads, self.alone_threads, self.max_batch, self.gpu
        )
        engine = open_engine(bundle, wanted, pace)
        golden = bundle.golden()
        try:
            difference = self_test(engine, golden, pace)
            warm_up(engine, bucket_sizes(engine.max_batch), pace)
        except (BundleInvalid, ModelFault) as error:
            raise BundleInvalid(f"{folder}: {error}") from error
        slot = Slot(bundle, engine, time.perf_counter() - started, golden.first())
        _log.info(
            "model %s version %d is ready in %.2f s: %s on %s (%s), golden frames within %.2g",
            *(bundle.manifest.name, bundle.manifest.version, slot.load_s),
            *(engine.precision, engine.provider, engine.reason, difference),
        )
        return slot
