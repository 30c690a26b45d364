"""From a bundle to an engine: choose device and precision, open the model there, and say why."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import onnxruntime as ort

from service.engine.alone import Alone
from service.engine.checks import self_test
from service.engine.choice import choose_precision
from service.engine.gpu import open_on_gpu
from service.engine.gpu_options import ANY_GPU, GpuOptions
from service.engine.layout import quicker_layout
from service.engine.running import MAX_BATCH, Engine, Plain
from service.engine.sessions import CPU, CUDA, open_session
from service.errors import ProviderMissing
from service.machine.background import at_once
from service.machine.processor import dot_products

if TYPE_CHECKING:
    from service.contract import Bundle, Precision
    from service.engine.choice import Choice, Provider
    from service.machine.background import Pace

__all__ = ["Wanted", "open_engine", "runs_in_caller"]


@dataclass(frozen=True)
class Wanted:
    """What the settings ask of an engine.

    Attributes:
        provider: `cuda` or `tensorrt` or nothing, `cpu`, or `auto`: CUDA where it works.
        precision: Which of the bundle's models; by default what suits the device.
        intra_op_threads: Threads within one run.
        alone_threads: Threads within one run, on a CPU, while there is one frame at a time.
        max_batch: Most frames in one run; by default what suits the device.
        gpu: How a GPU is used.
    """

    provider: Literal["auto", "cuda", "tensorrt", "cpu"] = "auto"
    precision: Precision | None = None
    intra_op_threads: int = 1
    alone_threads: int = 1
    max_batch: int | None = None
    gpu: GpuOptions = ANY_GPU


def open_engine(bundle: Bundle, wanted: Wanted, pace: Pace = at_once) -> Engine:
    """Open a verified bundle's model; the engine's `reason` says why it is on its device and in its precision.

    Args:
        bundle: The bundle.
        wanted: What the settings ask.
        pace: How the session is made.

    Raises:
        BundleInvalid: The runtime cannot read the model, or its tensors are not those of the contract.
        ProviderMissing: A GPU was asked for and is not to be had.
    """
    if wanted.provider == "cpu":
        return _on_cpu(bundle, wanted, "the settings name the CPU", pace)
    if wanted.provider != "auto":
        return _on_gpu(bundle, wanted, wanted.provider, pace)
    if CUDA not in ort.get_available_providers():
        return _on_cpu(bundle, wanted, "this ONNX Runtime knows no GPU", pace)
    try:
        return _on_gpu(bundle, wanted, "cuda", pace)
    except ProviderMissing as missing:
        return _on_cpu(bundle, wanted, str(missing), pace)


def runs_in_caller(provider: Literal["auto", "cuda", "tensorrt", "cpu"], intra_op_threads: int) -> bool:
    """Whether a session that is opened like this has no threads of its own: they would be of the opener's priority."""
    return likely_provider(provider) == "cpu" and intra_op_threads == 1


def likely_provider(provider: Literal["auto", "cuda", "tensorrt", "cpu"]) -> Provider:
    """Where a session is going to run, if what is installed here works."""
    if provider != "auto":
        return provider
    return "cuda" if CUDA in ort.get_available_providers() else "cpu"


def _on_cpu(bundle: Bundle, wanted: Wanted, why_here: str, pace: Pace) -> Engine:
    choice = precision_for(bundle, wanted.precision, "cpu")
    opened = functools.partial(_session_on_cpu, bundle, choice.precision, wanted.intra_op_threads, pace=pace)
    session = quicker_layout(opened(), lambda: opened(in_blocks=False), pace)
    reason = f"cpu: {why_here}; {choice.precision}: {choice.reason}"
    more = wanted.alone_threads > wanted.intra_op_threads
    alone = Alone(lambda: _for_one(bundle, choice.precision, wanted)) if more else None
    return Engine(Plain(session), "cpu", choice.precision, wanted.max_batch, reason, alone, bundle.manifest.threshold)


def _for_one(bundle: Bundle, precision: Precision, wanted: Wanted) -> Engine:
    """Open the same model with more threads, and hold it to the same golden frames.

    Raises:
        BundleInvalid: It cannot be opened any more, or does not answer as the other.
    """
    session = _session_on_cpu(bundle, precision, wanted.alone_threads, spins=True)
    engine = Engine(Plain(session), "cpu", precision, 1, threshold=bundle.manifest.threshold)
    self_test(engine, bundle.golden())
    return engine


def _session_on_cpu(bundle: Bundle, precision: Precision, threads: int, **options: Any) -> ort.InferenceSession:
    """Open a model as it suits this processor."""
    narrow_weights = precision == "int8" and dot_products().saturates
    return open_session(bundle, precision, [CPU], threads, narrow_weights=narrow_weights, **options)


def _on_gpu(bundle: Bundle, wanted: Wanted, provider: Literal["cuda", "tensorrt"], pace: Pace) -> Engine:
    choice = precision_for(bundle, wanted.precision, provider)
    max_batch = wanted.max_batch or MAX_BATCH[provider]
    runner = open_on_gpu(
        bundle,
        choice.precision,
        provider,
        max_batch=max_batch,
        intra_op_threads=wanted.intra_op_threads,
        gpu=wanted.gpu,
        pace=pace,
    )
    reason = f"{provider}: it works here; {choice.precision}: {choice.reason}"
    return Engine(runner, provider, choice.precision, max_batch, reason, threshold=bundle.manifest.threshold)


def precision_for(bundle: Bundle, wanted: Precision | None, provider: Provider) -> Choice:
    """Which of a bundle's models suits a device of this machine: see `choose_precision`."""
    manifest = bundle.manifest
    return choose_precision(wanted, provider, manifest.precisions, manifest.default_precision, dot_products())
