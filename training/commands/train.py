"""`robomask train`: finetune an encoder and a head on frames with masks.

The same command, started on every node, trains on many: Lightning takes node and process numbers from the launcher.
All nodes need to see the run folder.
"""

from __future__ import annotations

import logging
import sys
import warnings

from lightning.pytorch.utilities import rank_zero_only
from pydantic_settings import CliApp

from training.commands.flags import repeat_flags
from training.config import TrainConfig
from training.trainer import train


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(TrainConfig, cli_args=repeat_flags(argv))
    quieten_lightning()
    say = rank_zero_only(print)
    say(config.model_dump_json(indent=2), flush=True)
    try:
        result = train(config)
    except (ValueError, OSError) as error:
        print(f"robomask train: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        print(f"robomask train: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    if result is None:
        say(f"{config.out}: trained on all frames, none held out to measure on")
        return 0
    say(f"{config.out}: {result.in_words()}")
    return 0


def quieten_lightning() -> None:
    """Leave the terminal to the progress bar: no advertisements, no notes on devices that are not there."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")  # Lightning on a newer PyTorch
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # resuming is on purpose
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # samples cost 2 ms, steps a second
    warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")  # training on everything is on purpose
