"""`robomask sweep`: search hyper-parameters of finetuning."""

from __future__ import annotations

import json
import sys

from pydantic_settings import CliApp

from training.commands.flags import repeat_flags
from training.commands.train import quieten_lightning
from training.sweep.config import SweepConfig
from training.sweep.search import sweep


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(SweepConfig, cli_args=repeat_flags(argv))
    quieten_lightning()
    print(config.model_dump_json(indent=2), flush=True)
    try:
        best = sweep(config)
    except (ValueError, OSError) as error:
        print(f"robomask sweep: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        print(f"robomask sweep: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    print(json.dumps(best, indent=1))
    print(f"{config.out}: best.json, trials.json; the best run is {config.out / best['folder']}")
    return 0
