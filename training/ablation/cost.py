"""What a network costs for each frame: parameters, multiply-accumulates, milliseconds; of all rows of a table together.

Times that are taken at different hours differ by what else the machine does. So whenever a row comes in, all networks
are measured anew, in turns.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from training.ablation.latents import digest
from training.ablation.rows import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from training.ablation.parts import Parts
    from training.segmenter import Segmenter

ROUNDS = 5
"""Beside a first, which warms up."""

LIMIT_S = 15.0
"""A network that has run for so long is left out of further rounds: codes that are drawn one by one take seconds."""

CLOCK = (
    f"processor time of the process on one thread, median of {ROUNDS} rounds over all networks, which were measured "
    "together, in turns, in one process; rows whose networks have one shape share one time"
)
"""How `ms` is measured. Unlike the time on the wall it hardly counts other work of the machine; and on one thread no
waiting for other threads, which counts as work."""


def costs_of(file: Path, parts: Parts, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """The costs of rows, by name; of one without a network none.

    Args:
        file: Where they are kept. Where they are not all there, as measured together with this clock, all are measured.
        parts: Builds the networks.
        names: The rows of a table.
    """
    rows = [BY_NAME[name] for name in names if BY_NAME[name].encoder is not None]
    models = {row.name: parts.model(row, 0) for row in rows}
    settings = {name: model.model_dump(mode="json", exclude={"pretrained"}) for name, model in models.items()}
    keys = {row.name: digest(settings[row.name], parts.weights(row)) for row in rows}
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    kept: dict[str, Any] = known.get("rows", {})
    if known.get("ms") != CLOCK or any(kept.get(name, {}).get("key") != key for name, key in keys.items()):
        measured = measure({name: parts.build(model, 0) for name, model in models.items()})
        kept = {name: {"key": keys[name], **cost} for name, cost in measured.items()}
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"ms": CLOCK, "rows": kept}, indent=1) + "\n")
        temporary.replace(file)
    return {name: {what: number for what, number in kept[name].items() if what != "key"} for name in keys}


def measure(networks: Mapping[str, Segmenter]) -> dict[str, dict[str, float]]:
    """Measure networks on one frame, in float32, in turns.

    Returns:
        For each `parameters` and `trained` of them; `mac`, multiply-accumulates of matrix products and convolutions;
        `ms`, processor time on one thread. Networks of one shape have one `mac` and one `ms`.
    """
    shapes = {name: shape_of(network) for name, network in networks.items()}
    of_shape = {shapes[name]: network for name, network in networks.items()}
    macs = {shape: _macs(network) for shape, network in of_shape.items()}
    times = _times_ms({shape: network.eval() for shape, network in of_shape.items()})
    return {
        name: {
            "parameters": sum(p.numel() for p in network.parameters()),
            "trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
            "mac": macs[shapes[name]],
            "ms": times[shapes[name]],
        }
        for name, network in networks.items()
    }


def shape_of(segmenter: Segmenter) -> str:
    """A name that networks share which compute the same, but for the numbers in their weights."""
    latents = getattr(segmenter.encoder, "latents", "")  # a transformer's: one pass, or one for each code
    weights = {name: list(tensor.shape) for name, tensor in segmenter.state_dict().items()}
    return digest(repr(segmenter), latents, weights)


def _macs(segmenter: Segmenter) -> int:
    counted = copy.deepcopy(segmenter).train()  # evaluation takes fused kernels that the counter does not know
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        counted(_frame())
    return int(counter.get_total_flops()) // 2


def _times_ms(networks: Mapping[str, Segmenter]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in networks}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in tqdm(range(1 + ROUNDS), desc="costs", unit="round", leave=False):
            for name in networks:
                if sum(taken[name]) < LIMIT_S:
                    taken[name].append(_seconds(networks[name]))
    finally:
        torch.set_num_threads(threads)
    return {name: round(statistics.median(seconds[1:] or seconds) * 1e3, 2) for name, seconds in taken.items()}


def _seconds(segmenter: Segmenter) -> float:
    frame = _frame()
    with torch.inference_mode():
        start = time.process_time()
        segmenter(frame)
        return time.process_time() - start


def _frame() -> torch.Tensor:
    return torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
