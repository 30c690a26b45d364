"""Where a model comes from, without the paths of the machine that made it."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.contract import DataSource, Lineage

if TYPE_CHECKING:
    from training.run import Run


def lineage_of(run: Run) -> Lineage:
    """What it takes to train the run again: command, seed, data by hash, code revision."""
    config = {**run.config.model_dump(mode="json"), "out": run.folder.name}
    config["data"] = {**config["data"], "train": [Path(path).name for path in config["data"]["train"]]}
    for start in ("init", "pretrained"):
        if config["model"][start]:
            config["model"] = {**config["model"], start: Path(config["model"][start]).name}
    finished = datetime.fromtimestamp((run.folder / "run.json").stat().st_mtime, UTC).replace(microsecond=0)
    return Lineage(
        command=train_command(run, config),
        created=finished,
        seed=run.config.seed,
        code_revision=run.record.get("code_revision"),
        data=tuple(DataSource(name=data["name"], sha256=data["sha256"]) for data in run.record["data"]),
        config=config,
    )


def train_command(run: Run, config: dict[str, Any]) -> str:
    """The command line that trains the run again; settings left at their defaults are left out."""
    changed = run.config.model_dump(mode="json", exclude_defaults=True)
    words = ["robomask", "train"]
    for name, value in config.items():
        if name not in changed:
            continue
        if isinstance(value, dict):
            for inner in changed[name]:
                words += [f"--{name}.{inner}".replace("_", "-"), _word(value[inner])]
        else:
            words += [f"--{name}".replace("_", "-"), _word(value)]
    return shlex.join(words)


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)
