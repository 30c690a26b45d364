"""Keeps the frame encoder of a pretraining run as one small file that finetuning can start from.

    python -m training.pretrain.share_encoder runs/prior pretrained/frame_encoder.safetensors

What single frames meet of it, as float16: 23 MB for the full-size encoder instead of 136.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliApp, CliPositionalArg

from training.config import Config
from training.pretrain.weights import WeightsError, read_frame_encoder, write_small_encoder


class ShareConfig(Config):
    """Write the frame encoder of a run, or of a published checkpoint, as a small file."""

    source: CliPositionalArg[Path] = Field(description="run folder of `robomask pretrain prior`, or a checkpoint")
    file: CliPositionalArg[Path] = Field(description="where to write it, .safetensors")


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(ShareConfig, cli_args=argv)
    try:
        encoder = read_frame_encoder(config.source)
    except WeightsError as error:
        print(f"share_encoder: {error}", file=sys.stderr)
        return 1
    config.file.parent.mkdir(parents=True, exist_ok=True)
    write_small_encoder(config.file, encoder)
    print(f"{config.file}: {config.file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
