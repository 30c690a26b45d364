"""Where a model comes from, without the paths of the machine that made it."""

from __future__ import annotations

import hashlib
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.contract import Ancestor, DataSource, Lineage
from training.config import TrainConfig
from training.run import RECORD

if TYPE_CHECKING:
    from training.run import Run


def lineage_of(run: Run) -> Lineage:
    """What it takes to train the run again: command, seed, data by hash, code revision, and what it started from."""
    parent = Ancestor.model_validate(run.record["parent"]) if run.record.get("parent") else None
    name = run.folder.absolute().name
    config = _without_paths(run.config, name, parent)
    record = run.folder / RECORD
    finished = datetime.fromtimestamp(record.stat().st_mtime, UTC).replace(microsecond=0)
    mean_of = run.record.get("mean_of")
    return Lineage(
        command=train_command(run.config, config) if mean_of is None else _average_command(name, mean_of, parent),
        created=finished,
        seed=run.config.seed,
        code_revision=run.record.get("code_revision"),
        data=tuple(DataSource(name=data["name"], sha256=data["sha256"]) for data in run.record["data"]),
        config=config,
        run=Ancestor(kind="run", name=name, sha256=hashlib.sha256(record.read_bytes()).hexdigest()),
        parent=parent,
    )


def train_command(run: TrainConfig, config: dict[str, Any]) -> str:
    """The command line that trains a run again; settings left at their defaults are left out.

    Args:
        run: What the run was told.
        config: The same as it is to be written.
    """
    changed = run.model_dump(mode="json", exclude_defaults=True)
    words = ["robomask", "train"]
    for name, value in config.items():
        if name not in changed:
            continue
        if isinstance(value, dict):
            for inner in changed[name]:
                words += _words(f"{name}.{inner}".replace("_", "-"), value[inner])
        else:
            words += _words(name.replace("_", "-"), value)
    return shlex.join(words)


def _average_command(name: str, mean_of: dict[str, Any], parent: Ancestor | None) -> str:
    """The command lines that train the runs again of which this one is the mean, then that which averages them."""
    lines = []
    for run in mean_of["runs"]:
        config = TrainConfig.model_validate(run["config"])
        lines.append(train_command(config, _without_paths(config, run["name"], parent)))
    names = [run["name"] for run in mean_of["runs"]]
    lines.append(shlex.join(["robomask", "average", *names, "--out", name, *(["--start"] if mean_of["start"] else [])]))
    return " && ".join(lines)


def _without_paths(run: TrainConfig, name: str, parent: Ancestor | None) -> dict[str, Any]:
    """What a run was told, folders and files by their names alone, but for where it was told of."""
    config = {**run.model_dump(mode="json"), "out": name}
    del config["log"]  # where it was told of says nothing of the model
    config["data"] = {**config["data"], "train": [Path(path).name for path in config["data"]["train"]]}
    if config["data"]["val"]:
        config["data"]["val"] = Path(config["data"]["val"]).name
    for start in ("init", "pretrained"):
        if config["model"][start]:
            config["model"] = {**config["model"], start: Path(config["model"][start]).name}
    if parent is not None and parent.kind == "bundle":
        config["model"] = {**config["model"], "init": f"{parent.name}/{parent.version}"}
    return config


def _words(option: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", json.dumps(value) if isinstance(value, list) else str(value)]
