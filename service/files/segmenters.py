"""Who segments: a service over HTTP, or a bundle in this very process."""

from __future__ import annotations

import functools
import re
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
from PIL import Image

from service.files.errors import FilesError, FrameFailed, SegmenterFailed
from service.files.model_name import ModelName
from service.frames.limits import Limits, PixelMeter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from service.client import Client, Options
    from service.contract import Precision
    from service.engine import Engine
    from service.files.sources import Content
    from service.frames.geometry import Fit
    from service.versions.note import ModelNote

__all__ = ["Asked", "Found", "LocalSegmenter", "RemoteSegmenter", "Segmenter", "open_local", "open_remote"]


class Asked(NamedTuple):
    """What is asked of a segmenter.

    Attributes:
        models: Model repository.
        model: Model; None for the only one.
        version: Version; None for the newest.
        precision: Precision; None for the bundle's own choice.
        threshold: From which probability a pixel is robot; None for the bundle's own.
        fit: How a frame that is not square becomes 64x64.
    """

    models: Path
    model: str | None
    version: int | None
    precision: Precision | None
    threshold: float | None
    fit: Fit


class Found(NamedTuple):
    """What was found in a frame.

    Attributes:
        mask: uint8 [H,W] of 0 and 1.
        confidence: How sure the model is of the mask, 0..1.
        model: The text of the `ModelName` of what answered.
    """

    mask: NDArray[np.uint8]
    confidence: float
    model: str


class Segmenter(Protocol):
    """Segments frames; any number of threads may call it at once."""

    def segment(self, frame: Content) -> Found:
        """Segment one frame.

        Raises:
            FrameFailed: This one cannot be segmented.
            SegmenterFailed: None can be any more.
        """

    def close(self) -> None:
        """Give back what it holds."""


_NO_SERVICE: Final = frozenset({401, 403, 404, 405, 407})
"""Statuses that say more of the address than of a frame."""
_MOST: Final = 2**40
_MOST_PIXELS: Final = 150_000_000


class RemoteSegmenter:
    """A service, asked over HTTP; whatever is swapped there meanwhile, all frames are one model's.

    Args:
        client: Asks it.
        options: What it is asked for.
    """

    def __init__(self, client: Client, options: Options) -> None:
        self._client = client
        self._options = options
        self._model: str | None = None
        self._choosing = threading.Lock()

    def keep_to(self, model: str) -> None:
        """Be answered by one model alone, as frames before have been; it cannot be changed again.

        Args:
            model: As in `Found`.
        """
        asked = ModelName.parse(model)
        with self._choosing:
            if self._model is None:
                self._options = {**self._options, "model": asked.name, "version": asked.version}
                self._model = model

    def segment(self, frame: Content) -> Found:
        """Segment one frame; as in `Segmenter`."""
        found = self._ask(frame)
        self.keep_to(found.model)
        if found.model != self._model:  # asked before it was known who answers the first
            found = self._ask(frame)
        if found.model != self._model:
            raise SegmenterFailed(
                f"expected all frames to be segmented by {self._model}, got an answer of {found.model}; "
                "put that model back in service, or give another --out"
            )
        return found

    def _ask(self, frame: Content) -> Found:
        from service.client import BadRequest, ClientError, ModelUnknown, Redirected  # noqa: PLC0415 - needs httpx

        try:
            answer = self._client.segment(frame, **self._options)
        except ModelUnknown as error:
            advice = "" if self._model is None else "; frames before are by that one: give another --out for a new one"
            raise SegmenterFailed(f"{error}{advice}") from error
        except Redirected as error:
            raise SegmenterFailed(str(error)) from error
        except BadRequest as error:
            if error.status in _NO_SERVICE:
                raise SegmenterFailed(f"{error}; is the address right?") from error
            raise FrameFailed(str(error).removeprefix("frame 0: ")) from error
        except ClientError as error:
            raise SegmenterFailed(str(error)) from error
        one, model = answer.frames[0], answer.model
        name = ModelName.of(model.name, model.version, model.sha256)
        return Found(one.mask.view(np.uint8), one.confidence, str(name))

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


class LocalSegmenter:
    """A bundle in this process.

    Args:
        engine: Its model, opened and tested.
        threshold: From which probability a pixel is robot.
        fit: How a frame that is not square becomes 64x64.
        note: Name, version and hash of the bundle.
    """

    def __init__(self, engine: Engine, threshold: float, fit: Fit, note: ModelNote) -> None:
        self._engine = engine
        self._threshold = threshold
        self._fit = fit
        self._model = str(ModelName.of(note.name, note.version, note.sha256))
        self.model = note.name
        self.version = note.version
        # One's own files are trusted more than what comes over a network: only memory bounds them.
        self._limits = Limits(_MOST, 1, _MOST_PIXELS, 65_535, _MOST_PIXELS)

    @property
    def precision(self) -> Precision:
        """In which precision it runs, which may have been chosen by what this machine is fast at."""
        return self._engine.precision

    def segment(self, frame: Content) -> Found:
        """Segment one frame; as in `Segmenter`."""
        from service.errors import BadRequest, ModelFault  # noqa: PLC0415
        from service.frames.decode import Picture, decode  # noqa: PLC0415 - of the service, which a remote one does without
        from service.frames.geometry import restore, restore_mask, shrink, visible_cells  # noqa: PLC0415
        from service.frames.masks import judge, least, mask_confidence  # noqa: PLC0415

        try:
            if isinstance(frame, bytes):
                picture = decode(frame, 0, PixelMeter(self._limits))
            else:
                picture = Picture(Image.fromarray(frame), frame.shape[1], frame.shape[0])
            cells = self._engine.run(shrink(picture, self._fit)[np.newaxis], latents=False).probability[0]
        except BadRequest as error:
            raise FrameFailed(str(error).removeprefix("frame 0: ")) from error
        except ModelFault as error:
            raise SegmenterFailed(str(error)) from error
        place = picture.width, picture.height, self._fit
        mask = restore_mask(cells, least(self._threshold), *place)
        seen = cells[visible_cells(*place)]
        verdict = judge(seen, self._threshold)
        pixels = functools.partial(restore, cells, *place)
        sure = mask_confidence(verdict, seen, pixels, self._threshold, present=mask.area > 0)
        return Found(mask.whole(), sure, self._model)

    def close(self) -> None:
        """Nothing is held that goes on."""


def open_remote(url: str, asked: Asked) -> RemoteSegmenter:
    """A service at an address; the model that it serves has to be the one asked for.

    Raises:
        FilesError: It is no address.
    """
    from service.client import AddressInvalid, Client, Options, Retries  # noqa: PLC0415 - needs httpx

    options = Options(fit=asked.fit)
    if asked.threshold is not None:
        options["threshold"] = asked.threshold
    if asked.model is not None:
        options["model"] = asked.model
    if asked.version is not None:
        options["version"] = asked.version
    try:
        return RemoteSegmenter(Client(url, retries=Retries(tries=8)), options)
    except AddressInvalid as error:
        raise FilesError(str(error)) from error


def open_local(asked: Asked) -> LocalSegmenter:
    """A bundle, opened in this process and tested as the service would test it.

    Raises:
        FilesError: There is none, or it is refused.
    """
    from service.contract import BundleInvalid  # noqa: PLC0415
    from service.errors import StartFailed  # noqa: PLC0415

    try:
        from service.versions.models import Models, Opener  # noqa: PLC0415 - loads ONNX Runtime
    except ModuleNotFoundError as error:
        raise FilesError(
            f"expected {error.name} to segment in this process: pip install 'robomask[serve]', or give --url"
        ) from error
    opener = Opener(provider="auto", precision=asked.precision, intra_op_threads=1, max_batch=None)
    try:
        slot = Models(asked.models, asked.model, asked.version, opener).load()
    except (BundleInvalid, StartFailed) as error:
        told = re.sub(r" \(ROBOMASK_\w+\)", "", str(error))  # settings of the service, which are not read here
        raise FilesError(told) from error
    threshold = slot.manifest.threshold if asked.threshold is None else asked.threshold
    return LocalSegmenter(slot.engine, threshold, asked.fit, slot.note)
