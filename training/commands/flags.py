"""Several values after one flag, as shells expand `data/*.npz`; pydantic-settings takes one value a flag."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def repeat_flags(argv: Sequence[str]) -> list[str]:
    """Write a flag again before each further value that follows it.

    >>> repeat_flags(["--data.train", "a.npz", "b/", "--epochs", "3"])
    ['--data.train', 'a.npz', '--data.train', 'b/', '--epochs', '3']
    """
    out: list[str] = []
    flag, values = "", 0
    for word in argv:
        if word.startswith("--"):
            flag, values = ("" if "=" in word else word), 0
        else:
            if flag and values:
                out.append(flag)
            values += 1
        out.append(word)
    return out
