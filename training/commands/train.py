"""`robomask train`: finetune an encoder and a head on frames with masks."""

from __future__ import annotations

import sys

from pydantic_settings import CliApp

from training.config import TrainConfig
from training.data.readers import DatasetError
from training.run import RunError
from training.trainer import train


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(TrainConfig, cli_args=argv)
    try:
        result = train(config)
    except (DatasetError, RunError, ValueError) as error:
        print(f"robomask train: {error}", file=sys.stderr)
        return 1
    print(f"{config.out}: mean IoU {result.mean:.4f}, 5th percentile {result.p5:.4f} on {result.n} held-out frames")
    return 0
