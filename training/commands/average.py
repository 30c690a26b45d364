"""`robomask average`: the mean of several runs' weights, as a run folder."""

from __future__ import annotations

import sys

from pydantic_settings import CliApp

from training.mean import AverageConfig, average_runs


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(AverageConfig, cli_args=argv)
    try:
        result = average_runs(config)
    except (ValueError, OSError) as error:
        print(f"robomask average: {error}", file=sys.stderr)
        return 1
    if result is None:
        print(f"{config.out}: the mean of runs that have held nothing out to measure on")
        return 0
    print(f"{config.out}: {result.in_words()}")
    return 0
