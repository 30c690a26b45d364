"""`robomask bench`: how fast a service is, how fresh under overload, and how near to the model alone."""

from __future__ import annotations

import importlib.util
import signal
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_settings import CliApp

from service.bench.config import BenchConfig
from service.bench.errors import BenchError
from service.bench.reports import draw, text_of
from service.bench.running import INTERRUPTED, Report, bench
from service.commands.printing import print_to_who_reads
from service.commands.refusal import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run from the command line; returns 0, 1 if something could not be measured or written, 130 if interrupted."""
    try:
        config = CliApp.run(BenchConfig, cli_args=argv)
    except ValidationError as error:
        return refuse("bench", error)
    if config.plot is not None and importlib.util.find_spec("matplotlib") is None:
        print("robomask bench: expected matplotlib for --plot: pip install matplotlib", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what stops the service that was started
    try:
        report = bench(config, lambda text: print(f"robomask bench: {text} ...", file=sys.stderr, flush=True))
    except BenchError as error:
        print(f"robomask bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("robomask bench: interrupted before anything was measured", file=sys.stderr)
        return 130
    return _keep(report, config)


def _keep(report: Report, config: BenchConfig) -> int:
    """Write the figures, and only then print them, as nobody may be there to read; returns the exit status."""
    status = 0
    lines = [text_of(report)]
    try:
        lines.extend(map(str, _write(report, config)))
    except OSError as error:
        print(f"robomask bench: expected to write the figures, got: {error}", file=sys.stderr)
        status = 1
    print_to_who_reads("\n".join(lines))
    if report.failure is not None:
        print(f"robomask bench: {report.failure}; these are the figures from before that", file=sys.stderr)
        status = 130 if report.failure == INTERRUPTED else 1
    return status


def _write(report: Report, config: BenchConfig) -> Iterator[Path]:
    if config.json_file is not None:
        config.json_file.write_text(report.model_dump_json(indent=2) + "\n")
        yield config.json_file
    if config.plot is not None:
        draw(report, config.plot)
        yield config.plot
