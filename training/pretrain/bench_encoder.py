"""Times a training step of the prior with its frame encoder in 3D, as published, and in 2D.

    python -m training.pretrain.bench_encoder --batch-size 8

Both forms learn the same; see `training.pretrain.one_frame`. Their steps take turns, so that other load on the machine
weighs on both. Printed are medians: wall time, and CPU time over all threads, which says more on a busy machine.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic_settings import CliApp

from training.config import Config
from training.pretrain.config import PresetName, PriorSize, VQVAESize
from training.pretrain.one_frame import train_collapsed
from training.pretrain.presets import PRIOR_PRESETS, VQVAE_PRESETS
from training.pretrain.prior_module import exact_codes
from training.videogpt.prior import Prior

if TYPE_CHECKING:
    from collections.abc import Callable


class BenchConfig(Config):
    """What to time."""

    preset: PresetName = "cpu"
    part: Literal["prior", "encoder"] = Field("prior", description="whole training steps, or the encoder's share alone")
    batch_size: int = Field(8, gt=0)
    steps: int = Field(5, gt=0, description="timed steps of each form, after one that is not timed")
    precision: tuple[Literal["bf16-mixed", "32-true"], ...] = Field(
        ("32-true", "bf16-mixed"), min_length=1, description="arithmetic of the step, one table for each"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves PyTorch's choice")


class StepTime(NamedTuple):
    """Seconds of a step."""

    wall: float
    cpu: float


def median_times(steps: dict[str, Callable[[], None]], n: int) -> dict[str, StepTime]:
    """Let the steps take turns n times, after a first turn that is not timed; the medians of each."""
    times: dict[str, list[StepTime]] = {name: [] for name in steps}
    for turn in range(n + 1):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if turn:
                times[name].append(StepTime(time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: StepTime(statistics.median(t.wall for t in taken), statistics.median(t.cpu for t in taken))
        for name, taken in times.items()
    }


def make_step(prior: Prior, config: BenchConfig, precision: str) -> Callable[[], None]:
    """A training step on random clips: the whole prior's, codes of the frozen VQ-VAE included, or the encoder's."""
    vqvae = prior.config.vqvae
    video = torch.rand(config.batch_size, 3, *vqvae.clip_shape) - 0.5
    frames = video[:, :, : prior.config.n_cond_frames]
    optimizer = torch.optim.Adam([p for p in prior.parameters() if p.requires_grad])

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            if config.part == "prior":
                loss = prior(exact_codes(prior.vqvae, video), frames).loss
            else:
                loss = prior.resnet(frames).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main(argv: list[str]) -> int:
    """Time both forms and print the table."""
    config = CliApp.run(BenchConfig, cli_args=argv)
    if config.threads:
        torch.set_num_threads(config.threads)
    vqvae = VQVAESize.model_validate(VQVAE_PRESETS[config.preset].get("model", {})).build()
    size = PriorSize.model_validate(PRIOR_PRESETS[config.preset].get("model", {})).build(vqvae)
    published, collapsed = Prior(size), Prior(size)
    train_collapsed(collapsed)
    priors = {"published": published, "collapsed": collapsed}
    for precision in config.precision:
        steps = {name: make_step(prior, config, precision) for name, prior in priors.items()}
        report(config, precision, median_times(steps, config.steps))
    return 0


def report(config: BenchConfig, precision: str, times: dict[str, StepTime]) -> None:
    """Print the table of one precision."""
    print(f"{config.part}, preset {config.preset}, batch {config.batch_size}, {precision}")
    for name, taken in times.items():
        print(f"  {name:<10} {taken.wall:8.3f} s wall  {taken.cpu:8.3f} s CPU a step")
    published, collapsed = times["published"], times["collapsed"]
    print(f"  ratio      {published.wall / collapsed.wall:8.2f}         {published.cpu / collapsed.cpu:8.2f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
