"""CUDA and TensorRT: their options, and an engine on them, or the reason why there is none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import onnxruntime as ort

from service.contract import FRAME_SIZE, INPUTS, Bundle
from service.engine.buckets import Buckets
from service.engine.pinned import pinner
from service.engine.sessions import CPU, CUDA, TENSORRT, open_session
from service.errors import ProviderMissing
from service.machine.background import at_once

if TYPE_CHECKING:
    from service.contract import Precision
    from service.engine.gpu_options import GpuOptions
    from service.machine.background import Pace

__all__ = ["cuda_options", "open_on_gpu", "tensorrt_options"]

_log = logging.getLogger(__name__)

GpuProvider = Literal["cuda", "tensorrt"]

_NAMES = {"cuda": CUDA, "tensorrt": TENSORRT}


def cuda_options(gpu: GpuOptions, *, graphs: bool) -> dict[str, str]:
    """Options of the CUDA provider.

    Every batch size is run once before it serves, so that cuDNN may try all its algorithms then.
    """
    options = {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "enable_cuda_graph": "1" if graphs else "0",
    }
    if gpu.mem_limit_bytes is not None:
        options["gpu_mem_limit"] = str(gpu.mem_limit_bytes)
    return options


def tensorrt_options(gpu: GpuOptions, precision: Precision, max_batch: int) -> dict[str, str]:
    """Options of the TensorRT provider: one engine for all batch sizes, made for the largest.

    TensorRT makes its own fp16 of the fp32 file.
    """

    def shape(size: int) -> str:
        return f"{INPUTS[0].name}:{size}x{FRAME_SIZE}x{FRAME_SIZE}x3"

    options = {
        "device_id": "0",
        "trt_fp16_enable": "True" if precision == "fp16" else "False",
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(max_batch),
        "trt_profile_max_shapes": shape(max_batch),
    }
    if gpu.engine_cache is not None:
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(gpu.engine_cache),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(gpu.engine_cache),
        }
    return options


def open_on_gpu(
    bundle: Bundle,
    precision: Precision,
    provider: GpuProvider,
    *,
    max_batch: int,
    intra_op_threads: int,
    gpu: GpuOptions,
    pace: Pace = at_once,
) -> Buckets:
    """Open a model on a GPU; each session is made, and run for the first time, at that pace.

    Raises:
        ProviderMissing: There is no such GPU, driver or library.
        BundleInvalid: The runtime cannot read the model, or its tensors are not those of the contract.
    """
    require_build(provider)
    ort.preload_dlls()  # finds the CUDA libraries that pip installed
    if gpu.engine_cache is not None:
        gpu.engine_cache.mkdir(parents=True, exist_ok=True)

    def start(*, graphs: bool) -> Buckets:
        cuda = (CUDA, cuda_options(gpu, graphs=graphs))
        if provider == "tensorrt":
            first = (TENSORRT, tensorrt_options(gpu, precision, max_batch))
            session = open_session(bundle, "fp32" if precision == "fp16" else precision, [first, cuda, CPU], 1, pace)
        else:
            session = open_session(bundle, precision, [cuda, CPU], intra_op_threads, pace)
        require_provider(session.get_providers()[0], provider)
        return Buckets(session, "cuda", max_batch, graphs=graphs, pin=pinner())

    if not gpu.graphs or provider == "tensorrt":
        return start(graphs=False)
    try:
        buckets = start(graphs=True)
        pace(buckets.record)
    except ProviderMissing:
        raise
    except Exception as error:  # noqa: BLE001 - the runtime raises many kinds
        # It refuses to record a graph in which a node fell to the CPU, for one; without recording all may be well.
        _log.warning("no CUDA graphs, each run launches its kernels one by one: %s", error)
        return start(graphs=False)
    return buckets


def require_build(provider: GpuProvider) -> None:
    """Refuse a provider that this ONNX Runtime does not have.

    Raises:
        ProviderMissing: It does not.
    """
    available = ort.get_available_providers()
    if _NAMES[provider] not in available:
        raise ProviderMissing(
            f"expected a GPU, but this ONNX Runtime is built for {', '.join(available)}: "
            "install robomask[gpu] instead of robomask[serve], or choose --provider cpu"
        )


def require_provider(found: str, provider: GpuProvider) -> None:
    """Refuse a session that is somewhere else: the runtime does not raise, it takes the CPU and logs a line.

    Raises:
        ProviderMissing: It is.
    """
    if found != _NAMES[provider]:
        library = " and that TensorRT is installed (pip install tensorrt)" if provider == "tensorrt" else ""
        raise ProviderMissing(
            f"expected a GPU, but ONNX Runtime could not start {_NAMES[provider]}: check the driver with nvidia-smi"
            f"{library} and, in a container, that it was given a GPU; or choose --provider cpu"
        )
