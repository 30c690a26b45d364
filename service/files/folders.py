"""All that is in a folder, and what of it cannot be looked into."""

from __future__ import annotations

import stat
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from service.files.names import JOURNAL, RESULTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Listed", "walk"]


class Listed(NamedTuple):
    """What is in a folder.

    Attributes:
        files: All files.
        faults: Folders that cannot be looked into and entries of which it cannot be told what they are, and why.
    """

    files: list[Path]
    faults: list[tuple[Path, str]]


def walk(folder: Path, results: Sequence[Path]) -> Listed:
    """All files in a folder and in those below it, but for hidden ones and the results of this run and earlier ones.

    Links to folders are followed, each folder once: those that are here in their own right go before those that a link
    leads to, so that no name hangs on the order of the links.

    Args:
        folder: The folder.
        results: Folders of results, which are left out unless this is in one of them; those of earlier runs are known
            by the journal beside them.
    """
    here = folder.resolve()
    made = {each.resolve() for each in results} - {here, *here.parents}
    seen = set(made)
    listed = Listed([], [])
    places = deque([folder])
    links: deque[Path] = deque()
    while places or links:
        place = (places or links).popleft()
        real = place.resolve()
        if real not in seen and made.isdisjoint(real.parents):
            seen.add(real)
            _list(place, listed, places, links)
    return listed


def _list(place: Path, listed: Listed, places: deque[Path], links: deque[Path]) -> None:
    """List what is in one folder, and append the folders in it to those that are still to be listed."""
    try:
        children = [child for child in sorted(place.iterdir()) if not child.name.startswith(".")]
    except OSError as error:
        listed.faults.append((place, f"expected a readable folder, got: {error.strerror}"))
        return
    left_out = RESULTS if any(child.name == JOURNAL for child in children) else ()
    for child in children:
        try:
            mode = child.stat().st_mode
        except OSError as error:
            kind = "a link that leads somewhere" if child.is_symlink() else "a readable file or folder"
            listed.faults.append((child, f"expected {kind}, got: {error.strerror}"))
            continue
        if stat.S_ISREG(mode):
            listed.files.append(child)
        elif stat.S_ISDIR(mode) and child.name not in left_out:
            (links if child.is_symlink() else places).append(child)
