"""Which models are there and which of them answers: one lineup, replaced as a whole, read without a lock."""

from __future__ import annotations

import logging
import time
import weakref
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from service.contract import BundleInvalid, BundleOutOfReach
from service.errors import ModelFixed, ModelUnknown, NotReady, StartFailed, VersionUnavailable, quoted
from service.machine.background import at_once
from service.versions.listing import ModelList, State, SwapNote, VersionState
from service.versions.refusals import Refusals
from service.versions.repository import Folder
from service.versions.slot import Opener, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Sequence

    from service.machine.background import Pace
    from service.versions.repository import Repository
    from service.versions.trial import Trial

__all__ = ["Lineup", "ModelList", "Models", "Opener", "Slot", "SwapNote", "VersionState"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lineup:
    """The models that are open.

    Attributes:
        serving: The one that answers.
        previous: The one that answered before, kept for going back at once.
        trial: The candidate and how it is tried.
    """

    serving: Slot | None = None
    previous: Slot | None = None
    trial: Trial | None = None

    def find(self, version: int) -> Slot | None:
        """The open model of this version."""
        candidate = None if self.trial is None else self.trial.candidate
        return next(
            (s for s in (self.serving, candidate, self.previous) if s is not None and s.version == version), None
        )


class Models:
    """The versions of one model and those that are open.

    Only one thread at a time may change them; any may read.

    Args:
        repository: The model repository, or its folder.
        name: The model; None for the only one there.
        version: The version to start with; None for the newest that can be opened.
        opener: How a version is opened.
        clock: Seconds of a clock that only goes forward.

    Raises:
        StartFailed: There is no such model or version, or no way to tell which model is meant.
    """

    def __init__(
        self,
        repository: Repository | Path,
        name: str | None,
        version: int | None,
        opener: Opener,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = Folder(repository) if isinstance(repository, Path) else repository
        self._opener = opener
        try:
            self.name = name or _only_model(self._repository)
            self._candidates = _candidates(self._repository, self.name, version)
        except BundleOutOfReach as error:
            raise StartFailed(str(error)) from error
        self._clock = clock
        self._refusals = Refusals(clock)
        self._lineup = Lineup()
        self._faulty: weakref.ref[Slot] | None = None
        self._draining_since_s: float | None = None
        self.notes: Callable[[], list[SwapNote]] = list

    @property
    def lineup(self) -> Lineup:
        """The models that are open now."""
        return self._lineup

    def change(self, **changes: Slot | Trial | None) -> Lineup:
        """Replace some of the lineup, all at one moment; returns what it was before."""
        before = self._lineup
        self._lineup = replace(before, **changes)  # type: ignore[arg-type] # the names are those of its fields
        return before

    def load(self, vet: Callable[[Path], None] | None = None, declined: Collection[int] = ()) -> Slot:
        """Put the first candidate into service that can be opened. Takes seconds; call it from a thread.

        Args:
            vet: Called with a bundle's folder before this process has to do with it, if there is another to go on with.
            declined: Versions that have been turned away: tried last.

        Raises:
            StartFailed: None can, each for its reason; or the device is not there.
        """
        candidates = sorted(self._candidates, key=lambda version: version in declined)  # else in their own order
        for version in candidates:
            try:  # the last is opened as it is: there is none to go on with
                slot = self.open(version, None if version == candidates[-1] else vet)
            except BundleInvalid:
                continue
            passed = [newer for newer in self._candidates if newer > version and newer in declined]
            if passed:
                _log.warning(
                    "version %d of %s serves, for %s had been turned away; activate it by its number to go on",
                    *(version, self.name, ", ".join(map(str, passed))),
                )
            self.change(serving=slot)
            return slot
        raise StartFailed(
            f"expected a valid bundle of {self.name} in {self._repository.where}, but every one was refused: "
            + "; ".join(f"version {version}: {refusal.reason}" for version, refusal in self._refusals.all.items())
        )

    def open(
        self,
        version: int,
        vet: Callable[[Path], None] | None = None,
        pace: Pace = at_once,
    ) -> Slot:
        """Open a version, or take it as it is if it is open. A refusal is remembered, and forgotten on success.

        Args:
            version: The version.
            vet: Called with the bundle's folder before this process has to do with the bundle.
            pace: How the heavy pieces of it are done.

        Raises:
            BundleInvalid: It is refused.
            BundleOutOfReach: For now.
            ProviderMissing: The device is not there.
            NotReady: The service stops.
        """
        already = self._lineup.find(version)
        if already is not None:
            return already
        started_s = self._clock()
        fingerprint = self._repository.fingerprint(self.name, version)
        try:
            folder = self._repository.fetch(self.name, version)
            if vet is not None:
                vet(folder)
            slot = self._opener.open(folder, pace)
        except BundleInvalid as error:
            refusal = self._refusals.add(version, error, fingerprint, self._clock() - started_s)
            if refusal.passes:
                wording = "version %d of %s cannot be had now, it is left alone for %.3g s: %s"
                _log.warning(wording, version, self.name, refusal.pause_s, error)
            else:
                _log.error("version %d of %s is refused: %s", version, self.name, error)
            raise
        self._refusals.forget(version)
        return slot

    def close(self) -> None:
        """Wait no longer for a repository that hangs."""
        self._repository.close()

    def check_known(self, version: int) -> None:
        """Say no to a version that is neither open nor in the repository.

        Raises:
            ModelUnknown: It is not there.
        """
        if self._lineup.find(version) is None and version not in (there := self._repository.versions(self.name)):
            raise ModelUnknown(
                f"expected a version of {self.name} in {self._repository.where}, which has "
                f"{', '.join(map(str, there)) or 'none'}, got {version}"
            )

    def newest(self) -> int:
        """The newest version, valid or not.

        Raises:
            ModelFixed: There is none any more.
            VersionUnavailable: That cannot be told now.
        """
        there = self._versions()
        if not there:
            raise ModelFixed(f"expected a version of {self.name} in {self._repository.where}, found none")
        return there[-1]

    def between(self, older: int, newer: int) -> list[int]:
        """Versions that are newer than the one and no newer than the other, valid or not.

        Raises:
            VersionUnavailable: They cannot be looked at now.
        """
        return [version for version in self._versions() if older < version <= newer]

    def newer(self, than: int) -> list[int]:
        """Versions that are newer than this one and may be worth opening, the newest first.

        What has been refused comes again only when its files have changed since, or after a while if that may help.

        Raises:
            VersionUnavailable: They cannot be looked at now.
        """
        return [
            version
            for version in reversed(self._versions())
            if version > than
            and self._refusals.allow(version, partial(self._repository.fingerprint, self.name, version))
        ]

    def _versions(self) -> list[int]:
        try:
            return self._repository.versions(self.name)
        except BundleOutOfReach as error:
            raise VersionUnavailable(
                f"expected to look for versions of {self.name} now; the model in service stays, come again: {error}",
                reason="version",
            ) from error

    def mark_faulty(self, slot: Slot | None) -> None:
        """Say which model fails its golden frame, if one does; what serves in its place is not held up by that."""
        self._faulty = None if slot is None else weakref.ref(slot)

    def _is_faulty(self, slot: Slot) -> bool:
        return self._faulty is not None and self._faulty() is slot

    def drain(self) -> None:
        """Say to whoever asks that this service is on its way out; requests are still answered."""
        if self._draining_since_s is None:
            self._draining_since_s = time.monotonic()

    @property
    def drained_s(self) -> float:
        """Seconds since it has been on its way out; 0 if it is not."""
        return 0.0 if self._draining_since_s is None else time.monotonic() - self._draining_since_s

    def check_ready(self) -> Slot:
        """The slot that serves, if requests should be sent here.

        Raises:
            NotReady: The model is still loading, or fails its golden frame, or the service is stopping.
        """
        if self._draining_since_s is not None:
            raise NotReady(
                "expected to go on, but this service is stopping; ask another or come again", reason="stopping"
            )
        slot = self.slot()
        if self._is_faulty(slot):
            raise NotReady(
                f"expected version {slot.version} of {self.name} to answer its golden frame, but it fails by now, of "
                "which the log says more; ask another service, or come again",
                reason="faulty",
            )
        return slot

    def slot(self, name: str | None = None, version: int | None = None, stream: Hashable = None) -> Slot:
        """The model that is to answer.

        Args:
            name: The model that was asked for, if any.
            version: The version that was asked for, if any; one that is open will do.
            stream: Whose frames they are; in a canary trial that decides. None for the model in service.

        Raises:
            NotReady: The model is still loading.
            ModelUnknown: Another model or version was asked for.
        """
        lineup = self._lineup
        slot = lineup.serving
        if slot is None:
            raise NotReady(
                f"expected a model in service, but {self.name} is still being loaded; come again in a second",
                reason="loading",
            )
        if name not in {None, self.name}:
            raise _not_in_service(slot, name, version)
        if version is not None:
            asked = lineup.find(version)
            if asked is None:
                raise _not_in_service(slot, name, version)
            return asked
        trial = lineup.trial
        if trial is not None and trial.mode == "canary" and stream is not None and trial.takes(stream):
            return trial.candidate
        return slot

    def listing(self) -> ModelList:
        """All versions in the repository and in service, newest first. May take a while; call it from a thread.

        Where the repository cannot be looked at now, those that are open or have been refused.
        """
        lineup = self._lineup
        trial = lineup.trial
        known = set(self._refusals.all)
        try:
            known.update(self._repository.versions(self.name))
        except BundleOutOfReach as error:
            _log.warning("%s", error)
        states: dict[int, tuple[Slot, State]] = {}
        if lineup.previous is not None:
            states[lineup.previous.version] = (lineup.previous, "previous")
        if trial is not None:
            states[trial.candidate.version] = (trial.candidate, trial.mode)
        if lineup.serving is not None:
            states[lineup.serving.version] = (lineup.serving, "serving")
        return ModelList(
            name=self.name,
            ready=lineup.serving is not None and not self._is_faulty(lineup.serving),
            versions=[self._state(v, states.get(v)) for v in sorted({*known, *states}, reverse=True)],
            trial=None if trial is None else trial.note(),
            events=self.notes(),
        )

    def _state(self, version: int, is_open: tuple[Slot, State] | None) -> VersionState:
        if is_open is not None:
            slot, state = is_open
            return VersionState(
                version=version,
                state=state,
                sha256=slot.bundle.sha256,
                precision=slot.engine.precision,
                provider=slot.engine.provider,
                engine_reason=slot.engine.reason,
                threshold=slot.manifest.threshold,
                load_seconds=round(slot.load_s, 3),
                metrics=slot.manifest.metrics,
            )
        refusal = self._refusals.all.get(version)
        if refusal is None:
            return VersionState(version=version, state="available")
        state = "available" if refusal.passes else "refused"
        return VersionState(version=version, state=state, reason=refusal.reason)


def _not_in_service(slot: Slot, name: str | None, version: int | None) -> ModelUnknown:
    serving = slot.manifest
    asked = quoted(name or serving.name) + (f" version {version}" if version is not None else "")
    return ModelUnknown(
        f"expected a model in service, which is {serving.name} version {serving.version}, got {asked}; "
        "leave `model` and `version` out, or see /models"
    )


def _only_model(repository: Repository) -> str:
    names = repository.names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise StartFailed(
            f"expected a model repository with <model>/<version>/manifest.json in {repository.where}, found "
            f"{'no model' if repository.exists else 'no such folder'}; publish one with `robomask export`, "
            "or say with --models (ROBOMASK_MODELS) where it is"
        )
    raise StartFailed(
        f"expected one model in {repository.where}, found {', '.join(names)}; "
        "say with --model (ROBOMASK_MODEL) which to serve"
    )


def _candidates(repository: Repository, name: str, version: int | None) -> Sequence[int]:
    there = repository.versions(name)
    wanted = [v for v in reversed(there) if version in {None, v}]
    if wanted:
        return wanted
    raise StartFailed(
        f"expected {'a version' if version is None else f'version {version}'} of {name!r} in "
        f"{repository.where}, found {', '.join(map(str, there)) or 'none'}; models there: "
        f"{', '.join(repository.names()) or 'none'}"
    )
