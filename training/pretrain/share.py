"""Keeps what a pretraining run has learnt as a small folder that finetuning and `held_out` can start from.

    python -m training.pretrain.share runs/prior pretrained

    frame_encoder.safetensors   what single frames meet of the encoder: 23 MB for the full-size one instead of 136
    prior.safetensors           the prior and its VQ-VAE, without the encoder
    run.json                    the record of the run

Kernels and matrices are rounded to float16.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliApp, CliPositionalArg

from training.config import Config
from training.pretrain.weights import WeightsError, read_prior, write_small_prior
from training.run import RECORD


class ShareConfig(Config):
    """Write the prior of a run, its VQ-VAE and its frame encoder as a small folder."""

    source: CliPositionalArg[Path] = Field(description="finished run folder of `robomask pretrain prior`")
    folder: CliPositionalArg[Path] = Field(description="where to write it")


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(ShareConfig, cli_args=argv)
    try:
        prior = read_prior(config.source)
    except WeightsError as error:
        print(f"share: {error}", file=sys.stderr)
        return 1
    config.folder.mkdir(parents=True, exist_ok=True)
    for file in write_small_prior(config.folder, prior):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    record = config.source / RECORD
    if record.is_file():  # a published checkpoint has none
        shutil.copyfile(record, config.folder / RECORD)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
