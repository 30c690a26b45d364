"""How a module of this very program is run in a process of its own."""

from __future__ import annotations

import sys

__all__ = ["module_command"]


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of the installed program.

    With `-P` Python does not look in the current folder first, where somebody may have a package `service` of their
    own; PYTHONPATH and editable installations count as ever.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
