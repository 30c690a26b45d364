"""What a pretrained prior knows of clips it has not seen: nats per token, and what its sampled futures look like.

    python -m training.pretrain.held_out runs/prior --pictures docs/prior --motion-clips 24

Each data set of the run stands on its own line, with the scenes that the run itself held out of it; `--clips` names
where the data sets lie now, in the run's order, if not where they lay then.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationError
from pydantic_settings import CliApp, CliPositionalArg

from training.clips.batches import ClipShape, HeldOutClips
from training.commands.flags import repeat_flags
from training.config import Config
from training.data.readers import DatasetError
from training.pretrain.clip_data import open_parts
from training.pretrain.config import PriorRunConfig
from training.pretrain.pictures import prior_rows, save_gif, strips
from training.pretrain.prior_module import code_nats, codes_and_frames
from training.pretrain.vqvae_module import entropy_nats
from training.pretrain.weights import WeightsError, read_prior
from training.run import RECORD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.videogpt.prior import Prior

BATCH = 8
CHANGE = 60


class HeldOutConfig(Config):
    """Measure a prior on the clips that its run held out."""

    run: CliPositionalArg[Path] = Field(description="finished run folder of `robomask pretrain prior`")
    clips: tuple[Path, ...] = Field((), description="where the run's data sets lie now, in its order")
    pictures: Path | None = Field(None, description="folder for a strip and a GIF of sampled futures")
    motion_clips: int = Field(
        0, ge=0, description="held-out clips of each data set of which futures are sampled to see where they move"
    )
    picture_clips: int = Field(4, gt=0, description="held-out clips in them, of each data set")
    temperature: float = Field(1.0, gt=0, description="of the sampled futures; below 1: likelier codes")
    seed: int = Field(0, ge=0, description="of the sampled futures")


class Nats(NamedTuple):
    """Nats per token on clips, means over them."""

    clips: int
    all: float
    first_grid: float
    """Of the codes that cover the conditioning frame."""
    last_grid: float
    unigram: float
    """Entropy of the codes alone: what knowing each code's frequency, and nothing else, comes to."""
    uniform: float
    """ln K."""


class Motion(NamedTuple):
    """Share of the pixels that change in the course of a clip, by more than `CHANGE` grey levels in any channel."""

    upper: float
    """Of the upper 5/8 of the picture, where BAIR's arm is at work."""
    lower: float
    """Of the lowest 5/16, which shows the near wall of the bin and nothing else."""


def motion(clips_u8: np.ndarray) -> Motion:
    """Where clips uint8 [B, T, H, W, 3] move."""
    spread = clips_u8.max(1).astype(np.int16) - clips_u8.min(1)
    changes = spread.max(-1) > CHANGE  # [B, H, W]
    height = changes.shape[1]
    return Motion(float(changes[:, : height * 5 // 8].mean()), float(changes[:, height * 11 // 16 :].mean()))


@torch.no_grad()
def nats_per_token(prior: Prior, clips_u8: Tensor) -> Nats:
    """Measure a prior in evaluation mode on clips uint8 [B, T, H, W, 3]."""
    n_codes = prior.config.vqvae.n_codes
    grids, counts = [], torch.zeros(n_codes)
    for batch in torch.split(clips_u8, BATCH):
        codes, frames = codes_and_frames(prior, batch)
        grids.append(code_nats(prior, codes, frames).mean((2, 3)))  # [B, T']
        counts += torch.bincount(codes.flatten(), minlength=n_codes)
    mean = torch.cat(grids).mean(0)
    return Nats(
        len(clips_u8), float(mean.mean()), float(mean[0]), float(mean[-1]), entropy_nats(counts), math.log(n_codes)
    )


def draw_futures(prior: Prior, clips_u8: Tensor, folder: Path, *, temperature: float, seed: int) -> Path:
    """Write `futures.jpg` and `futures.gif`: clips uint8 [B, T, H, W, 3], what their codes keep, a sampled future."""
    rows = prior_rows(prior, clips_u8, temperature=temperature, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    strips(rows).save(folder / "futures.jpg", quality=90)
    save_gif(rows, folder / "futures.gif", scale=1)
    return folder / "futures.jpg"


def main(argv: Sequence[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(HeldOutConfig, cli_args=repeat_flags(argv))
    try:
        prior, run = read_prior(config.run).eval(), _run_config(config.run)
        data = run.data.model_copy(update={"clips": config.clips}) if config.clips else run.data
        parts = open_parts(data, prior.config.vqvae.sequence_length, run.seed)
    except (DatasetError, WeightsError, ValueError) as error:
        print(f"held_out: {error}", file=sys.stderr)
        return 1
    shape = ClipShape(prior.config.vqvae.sequence_length, prior.config.vqvae.resolution)
    shown: list[Tensor] = []
    print(f"{'data set':20}" + "".join(f"{name:>12}" for name in Nats._fields))
    for part in parts:
        clips = _clips(HeldOutClips([part], shape, run.data.val_clips))
        if not clips:
            continue
        nats = nats_per_token(prior, torch.stack(clips))
        figures = "".join(f"{value:12.3f}" for value in nats[1:])
        print(f"{part.source.path.name:20}{nats.clips:12}{figures}")
        shown += _clips(HeldOutClips([part], shape, config.picture_clips))
    for part in parts if config.motion_clips else ():
        clips = _clips(HeldOutClips([part], shape, config.motion_clips))
        if clips:
            rows = prior_rows(prior, torch.stack(clips), temperature=config.temperature, seed=config.seed)
            for kind, row in zip(("real", "codes", "sampled"), rows, strict=True):
                moved = motion(row)
                print(f"{part.source.path.name:20}{kind:>12}  moves: upper {moved.upper:.3f}, lower {moved.lower:.3f}")
    if config.pictures is not None:
        clips_u8 = torch.stack(shown)
        print(draw_futures(prior, clips_u8, config.pictures, temperature=config.temperature, seed=config.seed))
    return 0


def _clips(held_out: HeldOutClips) -> list[Tensor]:
    return [held_out[i] for i in range(len(held_out))]


def _run_config(folder: Path) -> PriorRunConfig:
    """The configuration that a run's record keeps.

    Raises:
        WeightsError: No record, or one of something else.
    """
    try:
        content = json.loads((folder / RECORD).read_text())
        return PriorRunConfig.model_validate(content["config"])
    except (OSError, KeyError, ValidationError, ValueError) as error:
        raise WeightsError(
            f"{folder}: expected the record of a run of `robomask pretrain prior`, found {error}"
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
