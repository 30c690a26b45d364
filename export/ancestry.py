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


class Ancestry(NamedTuple):
    """The models that a model came from.

    Attributes:
        lineages: Theirs, the youngest first, as far as they still are where they were.
        whole: Whether none of them is missing.
    """

    lineages: tuple[Lineage, ...] = ()
    whole: bool = True


def of_run(run: Run) -> Ancestry:
    """What a run started from, and all that had started from."""
    return _all_of(_starts(run))


def of_bundle(folder: Path, lineage: Lineage) -> Ancestry:
    """What a bundle says it started from, which is looked for beside it, and all that had started from."""
    beside = _bundle_beside(folder, lineage)
    if beside is None:
        return Ancestry(whole=lineage.parent is None)
    return _all_of([beside])


def _all_of(waiting: list[Path]) -> Ancestry:
    """Models, given by their folders, and their ancestors; each once."""
    found: dict[Path, Lineage] = {}
    whole = True
    while waiting:
        folder = waiting.pop(0)
        if folder in found:
            continue
        if (folder / MANIFEST).is_file():
            lineage = read_manifest((folder / MANIFEST).read_bytes(), str(folder)).lineage
            beside = _bundle_beside(folder, lineage)
            whole &= beside is not None or lineage.parent is None
            found[folder] = lineage
            waiting += [] if beside is None else [beside]
        elif (folder / RECORD).is_file():
            run = read_run(folder)
            found[folder] = lineage_of(run)
            waiting += _starts(run)
        else:
            whole = False
    return Ancestry(tuple(found.values()), whole)


def _starts(run: Run) -> list[Path]:
    """The weights of a run or bundle, the encoder of a bundle; other encoders were pretrained without masks.

    What an encoder was that is not there any more is not known: it counts as one that is missing.
    """
    init, encoder = run.config.model.init, run.config.model.pretrained
    told = encoder is not None and (not encoder.exists() or (encoder / MANIFEST).is_file())
    return [*([] if init is None else [init]), *([encoder] if encoder is not None and told else [])]


def _bundle_beside(folder: Path, lineage: Lineage) -> Path | None:
    """The version of the same model that a bundle says it started from."""
    if lineage.parent is None:
        return None
    for manifest in folder.parent.glob(f"*/{MANIFEST}"):
        if hashlib.sha256(manifest.read_bytes()).hexdigest() == lineage.parent.sha256:
            return manifest.parent
    return None
