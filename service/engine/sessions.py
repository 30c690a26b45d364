"""ONNX Runtime sessions on the content of a bundle's files, and whether they are what the contract says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import onnxruntime as ort

from service.contract import INPUTS, OUTPUTS, Bundle, BundleInvalid, TensorSpec
from service.contract.narrow import narrow
from service.contract.onnx_file import OnnxInvalid, inspect_onnx
from service.machine.allocator import give_back_memory
from service.machine.background import at_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.contract import Precision
    from service.machine.background import Pace

    ProviderList = Sequence[str | tuple[str, Mapping[str, str]]]

__all__ = ["CPU", "CUDA", "TENSORRT", "open_session"]

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"

_TYPES: Final = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


def open_session(
    bundle: Bundle,
    precision: Precision,
    providers: ProviderList,
    intra_op_threads: int,
    pace: Pace = at_once,
    *,
    spins: bool = False,
    in_blocks: bool = True,
    narrow_weights: bool = False,
) -> ort.InferenceSession:
    """Open one of a bundle's models.

    Args:
        bundle: A verified bundle.
        precision: Which of its models.
        providers: ONNX Runtime's names of providers, the preferred first, each with its options.
        intra_op_threads: Threads within one run.
        pace: How the session is made.
        spins: Whether its threads look for work all the time during a run, which is quicker where they have cores of
            their own. Between runs they never do: a waiting camera must not burn a core.
        in_blocks: Whether convolutions may lay out their channels in blocks of the width of the processor's registers,
            which is quicker where there are many.
        narrow_weights: Whether 8-bit weights are to have seven, see `narrow`.

    Raises:
        BundleInvalid: The runtime cannot read the model, or its tensors are not those of the contract.
    """
    content, beside = bundle.model(precision), bundle.beside(precision)
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.add_session_config_entry("session.force_spinning_stop", "1")  # when a run ends
    # Blocks come with the level above, on which ONNX Runtime 1.31 crashes on half precision.
    if not in_blocks or precision == "fp16":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if beside:
        options.add_external_initializers_from_files_in_memory(
            list(beside), list(beside.values()), list(map(len, beside.values()))
        )
    try:
        inspect_onnx(content, beside)
        if narrow_weights:
            content = narrow(content)
        session = pace(lambda: ort.InferenceSession(content, options, providers=list(providers)))
    except OnnxInvalid as error:
        raise BundleInvalid(f"{bundle.folder}: {error}") from error
    except Exception as error:
        raise BundleInvalid(f"{bundle.folder}: expected an ONNX model, the runtime refuses it: {error}") from error
    finally:
        give_back_memory()  # opening a model takes several times what stays
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
