"""The first line of a journal: the options with which the work was begun."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.files.errors import OptionsDiffer
from service.files.model_name import ModelName

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from pathlib import Path

__all__ = ["check_head", "head_of"]


def head_of(options: Mapping[str, Any]) -> str:
    """The line for these options."""
    return json.dumps({"kind": "options", **options}, sort_keys=True)


def check_head(path: Path, line: str, options: Mapping[str, Any], models: AbstractSet[str]) -> None:
    """See that work is gone on with as it was begun.

    Args:
        path: The journal.
        line: Its first line.
        options: With which the work is to go on.
        models: What has done any of it, as texts of `ModelName`.

    Raises:
        OptionsDiffer: It was begun with other options.
    """
    found = _as_written_now(line, options, models)
    if found != head_of(options):
        raise OptionsDiffer(
            f"{path}: expected work begun with the same options, found {found}; give those again, or another --out"
        )


def _as_written_now(line: str, options: Mapping[str, Any], models: AbstractSet[str]) -> str:
    """A line, of an earlier version of this program perhaps, as this one would have written it."""
    try:
        head = json.loads(line)
    except ValueError:
        return line
    if not isinstance(head, dict):
        return line
    if "url" in head:  # the address, with whatever passwords were in it, where now is only whether there was one
        head["service"] = head.pop("url") is not None
    if "frames" in options:
        head.setdefault("frames", False)  # there was no such option
    chosen = options.get("version")
    if head.get("version") is None and chosen is not None:  # what was chosen did not stand there, but in each frame
        head["version"] = chosen if {ModelName.parse(model).version for model in models} == {chosen} else None
    return json.dumps(head, sort_keys=True)
