"""What a run was begun with: its folder goes on with the same, or not at all.

What an unfinished run has learned from stands in no other place; going on with other frames held out would score it on
frames that it knows.
"""

from __future__ import annotations

import json
import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BEGUN = "begun.json"


def hold_to(
    folder: Path, settings: Mapping[str, Any], *, begun: bool, defaults: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write down what a run begins with or, where it has begun, compare.

    Args:
        folder: The run's.
        settings: What decides what it learns and is measured on; nested as in the configuration.
        begun: Whether it has learned anything yet; if not, it may still begin with others.
        defaults: Settings where nothing is said, as JSON has them: so a run was begun that knew no such setting yet.

    Raises:
        RunError: It was begun with others; names those that differ.
    """
    told = dict(flat(json.loads(json.dumps(settings))))
    file = folder / BEGUN
    if not (begun and file.is_file()):
        # All processes of a run write; those of several nodes share the folder and may share their numbers.
        temporary = folder / f".{BEGUN}.{uuid.uuid4().hex}"
        temporary.write_text(json.dumps(told, indent=1) + "\n")
        temporary.replace(file)
        return
    before = dict(flat(defaults)) | json.loads(file.read_text())
    other = sorted(name for name in told.keys() | before.keys() if told.get(name) != before.get(name))
    if other:
        found = ", ".join(f"{name} {told.get(name)} after {before.get(name)}" for name in other[:4])
        raise RunError(
            f"{folder}: expected the settings that it was begun with, found {found}: go on with the same, or "
            "name another folder with --out"
        )


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as names with dots in them, as flags have them, and values.

    >>> dict(flat({"optim": {"lr": 0.1}, "seed": 0}))
    {'optim.lr': 0.1, 'seed': 0}
    """
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
