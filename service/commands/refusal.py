"""Options that are out of their range: one line for each, as for everything else that is wrong with a command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["refuse"]


def refuse(command: str, error: ValidationError) -> int:
    """Say which options are wrong, and how; returns the exit status."""
    for fault in error.errors(include_url=False):
        option = ".".join(map(str, fault["loc"])).replace("_", "-")
        print(f"robomask {command}: {f'--{option}: ' if option else ''}{fault['msg']}", file=sys.stderr)
    return 2
