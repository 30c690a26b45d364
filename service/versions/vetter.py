"""Has bundles tried in a process of their own before this one opens them, each content once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from service.contract import MANIFEST
from service.versions.vetting import vet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.engine import Provider
    from service.versions.rules import Rules

__all__ = ["Vetter"]


class Vetter:
    """Remembers what has passed.

    Args:
        rules: What the process may take, and how models are opened.
        provider: Where models are going to run.
        stopped: Whether nobody waits for it any more, as the service stops.
    """

    def __init__(self, rules: Rules, provider: Callable[[], Provider], stopped: Callable[[], bool]) -> None:
        self._rules = rules
        self._provider = provider
        self._stopped = stopped
        self._passed: set[tuple[str, Provider]] = set()

    def vet(self, folder: Path, patience: int | None = None) -> None:
        """Try a bundle, unless one of this content has passed: its manifest has all the hashes. See `vetting.vet`."""
        try:
            identity = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        except OSError:
            return  # opening it says what is wrong
        rules, provider = self._rules, self._provider()
        if (identity, provider) in self._passed:
            return
        vet(
            folder,
            max_batch=rules.max_batch,
            precision=rules.precision,
            provider=provider,
            limit_s=rules.vet_s,
            patience=patience,
            stopped=self._stopped,
        )
        self._passed.add((identity, provider))
