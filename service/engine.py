"""ONNX Runtime: open a bundle's model on the device that was asked for, and run frames through it."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import onnxruntime as ort

from service.background import at_once
from service.contract import FRAME_SIZE, INPUTS, LATENTS, OUTPUTS, PROBABILITY, Bundle, BundleInvalid, TensorSpec
from service.errors import ModelFault, ProviderMissing
from service.onnx_file import OnnxInvalid, inspect_onnx

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.background import Pace
    from service.contract import Golden, Precision

__all__ = ["Engine", "Prediction", "Provider", "batch_buckets", "open_engine", "runs_in_caller", "self_test", "warm_up"]

Provider = Literal["cuda", "cpu"]

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
_MAX_BATCH: Final[dict[Provider, int]] = {"cpu": 1, "cuda": 32}
"""On a CPU a batch is no faster than its frames one by one on several cores, and those are fairer."""

_TYPES: Final = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


class Prediction(NamedTuple):
    """What the model says of N frames.

    Attributes:
        probability: float32 [N,64,64], 0..1.
        latents: float32 [N,16,16,240], if asked for.
    """

    probability: NDArray[np.float32]
    latents: NDArray[np.float32] | None


class Engine:
    """A model on a device. Any number of threads may run it at once.

    Attributes:
        provider: The device that runs it.
        precision: Which of the bundle's models it is.
        max_batch: Most frames in one run.
    """

    def __init__(
        self, session: ort.InferenceSession, provider: Provider, precision: Precision, max_batch: int | None = None
    ) -> None:
        self._session = session
        self.max_batch = max_batch or _MAX_BATCH[provider]
        self.provider: Provider = provider
        self.precision: Precision = precision

    def run(self, frames: NDArray[np.uint8], latents: bool) -> Prediction:
        """Run uint8 frames [N,64,64,3], N >= 1.

        Raises:
            ModelFault: The runtime failed, or gave something that is no probability.
        """
        names = [PROBABILITY.name, LATENTS.name] if latents else [PROBABILITY.name]
        try:
            outputs = self._session.run(names, {INPUTS[0].name: frames})
        except Exception as error:
            raise ModelFault(f"expected an answer for {len(frames)} frames, the runtime failed: {error}") from error
        probability = outputs[0]
        if probability.shape != (len(frames), FRAME_SIZE, FRAME_SIZE) or not np.isfinite(probability).all():
            raise ModelFault(f"expected {PROBABILITY} of finite numbers, the model gave others")
        return Prediction(probability, outputs[1] if latents else None)


def open_engine(
    bundle: Bundle,
    *,
    precision: Precision | None,
    provider: Literal["auto", "cuda", "cpu"],
    intra_op_threads: int,
    max_batch: int | None,
    pace: Pace = at_once,
) -> tuple[Engine, str | None]:
    """Open a bundle's model.

    Args:
        bundle: A verified bundle.
        precision: Which of its models; by default the one it recommends.
        provider: `cuda` or nothing, `cpu`, or `auto`: CUDA where it works.
        intra_op_threads: Threads within one run.
        max_batch: Most frames in one run; by default what suits the device.
        pace: How the session is made.

    Returns:
        The engine, and a sentence of why it is not on a GPU if `auto` found one that does not work.

    Raises:
        BundleInvalid: The runtime cannot read the model, or its tensors are not those of the contract.
        ProviderMissing: CUDA was asked for and is not to be had.
    """
    precision = precision or bundle.manifest.default_precision
    content = bundle.model(precision)
    if provider == "cpu" or (provider == "auto" and _CUDA not in ort.get_available_providers()):
        return Engine(_open_session(bundle, content, _CPU, intra_op_threads, pace), "cpu", precision, max_batch), None
    try:
        return Engine(_open_on_cuda(bundle, content, intra_op_threads, pace), "cuda", precision, max_batch), None
    except ProviderMissing as missing:
        if provider == "cuda":
            raise
        return Engine(_open_session(bundle, content, _CPU, intra_op_threads, pace), "cpu", precision, max_batch), str(
            missing
        )


def runs_in_caller(provider: Literal["auto", "cuda", "cpu"], intra_op_threads: int) -> bool:
    """Whether a session that is opened like this has no threads of its own: they would be of the opener's priority."""
    on_cpu = provider == "cpu" or (provider == "auto" and _CUDA not in ort.get_available_providers())
    return on_cpu and intra_op_threads == 1


def batch_buckets(max_batch: int) -> list[int]:
    """Batch sizes that are tried before a model serves: the powers of two, and the largest.

    >>> batch_buckets(1), batch_buckets(6)
    ([1], [1, 2, 4, 6])
    """
    return sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})


def self_test(engine: Engine, golden: Golden, pace: Pace = at_once) -> float:
    """Run the golden frames, all at once and one alone; returns the largest difference found.

    Args:
        engine: What is tested.
        golden: Frames and what is expected for them.
        pace: How each run is done.

    Raises:
        BundleInvalid: The answers differ by more than the bundle allows.
    """
    allowed = golden.allowed(engine.precision)
    try:
        together = pace(lambda: engine.run(golden.frames, latents=True))
        alone = pace(lambda: engine.run(golden.frames[:1], latents=False))
    except ModelFault as error:
        raise BundleInvalid(f"expected the golden frames to run, got: {error}") from error
    if together.latents is None or together.latents.shape != (len(golden.frames), *LATENTS.shape[1:]):
        raise BundleInvalid(f"expected {LATENTS}, the model gave {getattr(together.latents, 'shape', None)}")
    difference = max(
        float(np.abs(together.probability - golden.probability).max()),
        float(np.abs(alone.probability - golden.probability[:1]).max()),
    )
    if difference > allowed:
        raise BundleInvalid(
            f"expected probabilities within {allowed:g} of the golden ones, got a difference of {difference:.4g}: "
            f"the {engine.precision} model on {engine.provider} does not answer as it did when it was exported"
        )
    return difference


def warm_up(engine: Engine, batch_sizes: Sequence[int], pace: Pace = at_once) -> float:
    """Run every batch size twice, so that no client pays for what happens at a first time; returns the seconds."""
    started = time.perf_counter()
    for size in batch_sizes:
        frames = np.zeros((size, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        for latents in (False, True):
            pace(functools.partial(engine.run, frames, latents))
    return time.perf_counter() - started


def _open_on_cuda(bundle: Bundle, content: bytes, intra_op_threads: int, pace: Pace) -> ort.InferenceSession:
    if _CUDA not in ort.get_available_providers():
        raise ProviderMissing(
            "expected a GPU, but this ONNX Runtime is built for "
            f"{', '.join(ort.get_available_providers())}: install robomask[gpu] instead of robomask[serve], "
            "or choose --provider cpu"
        )
    ort.preload_dlls()  # finds the CUDA libraries that pip installed
    session = _open_session(bundle, content, _CUDA, intra_op_threads, pace)
    if session.get_providers()[0] != _CUDA:  # the runtime does not raise, it takes the CPU and says so in its own log
        raise ProviderMissing(
            "expected a GPU, but ONNX Runtime could not start CUDA: check the driver with nvidia-smi and, in a "
            "container, that it was given a GPU; or choose --provider cpu"
        )
    return session


def _open_session(
    bundle: Bundle, content: bytes, provider: str, intra_op_threads: int, pace: Pace
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting camera must not burn a core
    # By default cuDNN tries every algorithm whenever a batch has a new size; its heuristic costs no such pauses.
    cuda_options: dict[str, Any] = {"cudnn_conv_algo_search": "HEURISTIC"}
    providers = [(_CUDA, cuda_options), _CPU] if provider == _CUDA else [_CPU]
    try:
        inspect_onnx(content)
        session = pace(lambda: ort.InferenceSession(content, options, providers=providers))
    except OnnxInvalid as error:
        raise BundleInvalid(f"{bundle.folder}: {error}") from error
    except Exception as error:
        raise BundleInvalid(f"{bundle.folder}: expected an ONNX model, the runtime refuses it: {error}") from error
    found = [*session.get_inputs(), *session.get_outputs()]
    wanted = [*INPUTS, *OUTPUTS]
    if len(found) != len(wanted) or not all(map(_agrees, wanted, found)):
        raise BundleInvalid(
            f"{bundle.folder}: expected a model with {'; '.join(map(str, wanted))}; "
            f"got {'; '.join(f'{node.name} {node.type} {node.shape}' for node in found)}"
        )
    return session


def _agrees(spec: TensorSpec, node: Any) -> bool:
    """Whether the graph's tensor is the contract's; an output may leave an axis open, the self-test runs it anyway."""
    sizes = zip(spec.shape, node.shape, strict=False)
    return (
        node.name == spec.name
        and node.type == _TYPES[spec.dtype]
        and len(node.shape) == len(spec.shape)
        and not isinstance(node.shape[0], int)
        and all(not isinstance(size, int) or size == wanted for wanted, size in sizes)
    )
