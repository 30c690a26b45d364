"""`robomask simulate`: render robot-pushing clips with exact masks, or compare them with real frames."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pydantic_settings import CliApp

from training.simulate import compare
from training.simulate.config import SimulateConfig
from training.simulate.errors import SimulationError
from training.simulate.generate import Cost, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(SimulateConfig, cli_args=argv)
    try:
        if config.out is not None:
            outcome = simulate(config)
            if outcome.costs:
                print(summary(outcome.costs, config.frames))
            print(f"{config.out}: {config.clips} clips of {config.frames} frames in {len(outcome.shards)} shards")
        if config.compare is not None:
            hold_against(config)
    except (SimulationError, ValueError, OSError) as error:
        print(f"robomask simulate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = "" if config.out is None else f"; the same command goes on from {config.out}"
        print(f"robomask simulate: interrupted{again}", file=sys.stderr)
        return 130
    return 0


def summary(costs: Sequence[Cost], frames: int) -> str:
    """How many clips were made, each of so many frames, and how quickly.

    >>> summary([Cost(2.0, True), Cost(0.5, False), Cost(0.5, False)], 16)
    '3 new clips, 16.0 frames per CPU second; 32.0 once a process has compiled its shaders, in its first clip'
    """
    all_of_them = [cost.cpu_seconds for cost in costs]
    later = [cost.cpu_seconds for cost in costs if not cost.first]
    text = f"{len(costs)} new clips, {len(costs) * frames / sum(all_of_them):.1f} frames per CPU second"
    if not later:
        return text
    return f"{text}; {len(later) * frames / sum(later):.1f} once a process has compiled its shaders, in its first clip"


def hold_against(config: SimulateConfig) -> None:
    """Print figures of simulated and of real frames; write the picture where one is wanted.

    As many frames are simulated as there are real ones, at most `clips`.
    """
    from training.data.readers import read_frames  # noqa: PLC0415  # reads COCO too, which only this needs

    if config.compare is None:
        raise SimulationError("expected --compare DATA, got none")
    real = read_frames(config.compare)
    frames, masks = compare.simulate_frames(config, min(config.clips, len(real)))
    figures = {
        "simulated": compare.statistics(frames, masks),
        "real": compare.statistics(real.frames, real.masks),
    }
    print(json.dumps(figures, indent=1))
    if config.picture is not None:
        compare.save_picture(compare.side_by_side(frames, real), config.picture)
        print(f"{config.picture}: simulated frames on the left, real ones on the right")
