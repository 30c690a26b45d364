"""What a model has learned from before its own training: what it started from, what that had, and so on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from export.lineage import lineage_of
from service.contract import MANIFEST, read_manifest
from training.run import RECORD, read_run

if TYPE_CHECKING:
    from pathlib import Path

    from service.contract import Lineage
    from training.run import Run

__all__ = ["Ancestry", "of_bundle", "of_run"]

_GENERATIONS = 32


class Ancestry(NamedTuple):
    """The models that a model came from.

    Attributes:
        lineages: Theirs, the youngest first, as far as they still are where they were.
        whole: Whether none of them is missing.
    """

    lineages: tuple[Lineage, ...] = ()
    whole: bool = True


def of_run(run: Run) -> Ancestry:
    """What a run started from: the weights of a run or bundle, or the encoder of a bundle."""
    found, whole = _generations(run.config.model.init)
    encoder = run.config.model.pretrained
    if encoder is not None and (encoder / MANIFEST).is_file():  # others were pretrained on clips without masks
        more, more_whole = _generations(encoder)
        found, whole = [*found, *more], whole and more_whole
    return Ancestry(tuple(found), whole)


def of_bundle(folder: Path, lineage: Lineage) -> Ancestry:
    """What a bundle says it started from, which is looked for beside it."""
    if lineage.parent is None:
        return Ancestry()
    beside = _bundle_beside(folder, lineage)
    if beside is None:
        return Ancestry(whole=False)
    found, whole = _generations(beside)
    return Ancestry(tuple(found), whole)


def _generations(start: Path | None) -> tuple[list[Lineage], bool]:
    found: list[Lineage] = []
    while start is not None and len(found) < _GENERATIONS:
        if (start / MANIFEST).is_file():
            lineage = read_manifest((start / MANIFEST).read_bytes(), str(start)).lineage
            found.append(lineage)
            start = _bundle_beside(start, lineage)
            if start is None:
                return found, lineage.parent is None
        elif (start / RECORD).is_file():
            parent = read_run(start)
            before = of_run(parent)
            return [*found, lineage_of(parent), *before.lineages], before.whole
        else:
            return found, False
    return found, start is None


def _bundle_beside(folder: Path, lineage: Lineage) -> Path | None:
    """The version of the same model that a bundle says it started from."""
    if lineage.parent is None:
        return None
    for manifest in folder.parent.glob(f"*/{MANIFEST}"):
        if hashlib.sha256(manifest.read_bytes()).hexdigest() == lineage.parent.sha256:
            return manifest.parent
    return None
