"""Changes which models are open and which of them answers, beside live traffic: the one place that does.

Changes are made on one thread, one after the other; what is heavy in them gives way to everything else. A version is
verified, tried in a process of its own, opened, tested against its golden frames and warmed up before it gets a single
frame; whatever fails leaves the lineup as it was.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Final

from service.contract import BundleInvalid, BundleOutOfReach
from service.errors import (
    Busy,
    ModelFixed,
    ModelUnknown,
    ProviderMissing,
    RobomaskError,
    VersionUnavailable,
    quoted,
)
from service.machine.background import Aside, interruptible
from service.versions.closing import gone, let_go
from service.versions.shadow import Shadow
from service.versions.trial import Trial
from service.versions.vetter import Vetter

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.engine import Provider
    from service.telemetry.metrics import Metrics
    from service.versions.audit import Audit
    from service.versions.models import Lineup, Models, Slot
    from service.versions.rules import Rules
    from service.versions.shadow import Disagreement
    from service.versions.trial import Gate, Mode
    from service.versions.watch import Watchers

__all__ = ["Control"]

_log = logging.getLogger(__name__)

_MOST_WAITING: Final = 8
_FEW: Final = 2
"""Seconds on the clock for a second of processor time, where nothing serves yet that would come first."""
_DECIDED: Final = frozenset({"api", "protocol", "gate"})
"""Who goes back to an older version on purpose: polling and signals only ever go forward."""


class Control:
    """Changes the lineup on behalf of the API, the Open Inference Protocol, polling, a signal and trials.

    Args:
        models: What is changed.
        rules: How.
        audit: Where it is noted.
        metrics: Where it is counted.
        watchers: Through whom trials see answers.
        busy: Whether frames of clients wait for the model.
        tell: Told of every frame that two models have run, from another thread.
    """

    def __init__(
        self,
        models: Models,
        rules: Rules,
        *,
        audit: Audit,
        metrics: Metrics,
        watchers: Watchers,
        busy: Callable[[], bool],
        tell: Callable[[Disagreement], None] | None = None,
    ) -> None:
        self._models = models
        self._rules = rules
        self._audit = audit
        self._metrics = metrics
        self._watchers = watchers
        self._busy = busy
        self._tell = tell
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="robomask-models")
        self._aside = Aside("robomask-models-aside", low=rules.low)
        self._waiting = 0
        self._shadow: Shadow | None = None
        self._before: int | None = None  # the version that served before, whether or not it is open
        self._declined = audit.declined
        self._held_back: set[int] = set()  # found while somebody's trial goes on
        self._stopped = threading.Event()
        self._vetter = Vetter(rules, self._provider, self._stopped.is_set)
        self._poller: threading.Thread | None = None
        models.notes = audit.notes

    def start(self) -> None:
        """Begin to look for newer versions, if that is wanted; to be called when a model serves."""
        if self._rules.poll_s:
            self._poller = threading.Thread(target=self._poll, name="robomask-poll", daemon=True)
            self._poller.start()

    def load_first(self) -> Slot:
        """Put the first version into service that can be opened; see `Models.load`."""
        vet = partial(self._vetter.vet, patience=_FEW) if self._rules.vet_s else None  # an older one may do, and soon
        return self._models.load(vet, self._declined)

    def hurry(self) -> None:
        """Wait no longer for stores that hang, and begin nothing more; at once, before `close`."""
        self._stopped.set()
        self._models.close()

    def close(self) -> None:
        """Finish the change that is being made, unless it waits for a store, and end all threads."""
        self.hurry()
        self._worker.shutdown(cancel_futures=True)
        self._end_shadow()
        self._aside.close()

    # What others ask for; each returns when it is done.

    async def activate(self, version: int, by: str = "api") -> None:
        """Put a version into service.

        Raises:
            ModelUnknown: There is no such version.
            ModelFixed: It is refused.
            VersionUnavailable: It cannot be had or tried now.
            Busy: Too many changes wait.
        """
        await self._do(self._activate, version, by)

    async def rollback(self, by: str = "api") -> None:
        """Put the version into service again that served before.

        Raises:
            ModelFixed: None did, or it is refused now.
            VersionUnavailable: It cannot be had or tried now.
            Busy: Too many changes wait.
        """
        await self._do(self._roll_back, by)

    async def attempt(self, mode: Mode, version: int, share: float, gate: Gate | None, by: str = "api") -> None:
        """Try a version on a share of streams, 0..1; it takes the place of any other trial. A share of 0 ends it.

        Raises:
            ModelUnknown: There is no such version.
            ModelFixed: It is refused, or serves.
            VersionUnavailable: It cannot be had or tried now.
            Busy: Too many changes wait.
        """
        await self._do(self._attempt, mode, version, share, gate, by)

    async def load(self, name: str, version: int | None) -> None:
        """Put a version of a model into service, by default the newest.

        Raises:
            ModelUnknown: There is no such model or version.
            ModelFixed: It cannot be put into service.
            VersionUnavailable: Not now.
        """
        self._check_name(name)
        await self._do(self._load, version)

    async def unload(self, name: str, version: int | None = None) -> None:
        """Close a version that is open and does not serve; without a version, all of those.

        Raises:
            ModelUnknown: There is no such model, or the version is not open.
            ModelFixed: It serves: there is always a model in service.
        """
        self._check_name(name)
        await self._do(self._unload, version)

    def rescan_soon(self, by: str) -> None:
        """Look for a newer version when there is time; any thread may ask, a signal's handler too."""
        self._submit(self._rescan, by)

    # What is done on the one thread.

    def _activate(self, version: int, by: str, action: str = "activate", reason: str | None = None) -> None:
        lineup = self._models.lineup
        serving = self._serving(lineup)
        if serving.version == version:
            self._audit.add(action, version, by, "unchanged", reason)
            return
        slot = self._open(version, by, action)
        # Who goes back to an older version has turned away all up to the one that served.
        goes_back = by in _DECIDED and version < serving.version
        turned_away = self._models.between(version, serving.version) if goes_back else []
        self._end_shadow()
        kept = serving if self._rules.keep_previous else None
        before = self._models.change(serving=slot, previous=kept, trial=None)
        self._metrics.serves(slot.bundle, slot.engine, slot.load_s)
        self._before = serving.version
        self._declined |= {*turned_away, serving.version} if action == "rollback" else set(turned_away)
        self._declined.discard(version)
        if before.trial is not None and before.trial.candidate.version != version:
            reason_ended = f"version {version} has been put into service"
            self._audit.add("end-trial", before.trial.candidate.version, by, "ended", reason_ended)
        self._audit.add(action, version, by, "rolled-back" if action == "rollback" else "activated", reason)
        closed = gone(before, self._models.lineup)
        del lineup, serving, slot, kept, before
        let_go(closed)

    def _roll_back(self, by: str) -> None:
        serving = self._serving(self._models.lineup).version
        if self._before is None:
            raise ModelFixed(
                f"expected a version that served before, but version {serving} is the first since the service started; "
                "activate another by its number"
            )
        self._activate(self._before, by, action="rollback")

    def _attempt(self, mode: Mode, version: int, share: float, gate: Gate | None, by: str) -> None:
        lineup = self._models.lineup
        serving = self._serving(lineup)
        if share <= 0:
            if lineup.trial is None or lineup.trial.candidate.version != version:
                raise ModelFixed(f"expected a trial of version {version} to end, there is none")
            del lineup
            self._end_trial(by, "ended", None)
            return
        if serving.version == version:
            raise ModelFixed(f"expected a version to hold against the one in service, got that one, {version}, itself")
        candidate = self._open(version, by, mode)
        self._end_shadow()
        trial = Trial(mode, candidate, serving, share=share, gate=gate, by=by)
        before = self._models.change(trial=trial)
        self._shadow = Shadow(
            trial, self._metrics, busy=self._busy, decide=self._decided, tell=self._tell, low=self._rules.low
        )
        self._watchers.add(self._shadow)
        if before.trial is not None:
            self._audit.add("end-trial", before.trial.candidate.version, by, "ended", f"version {version} is tried now")
        bounds = "" if gate is None else f", promoted if {gate.model_dump_json(exclude_none=True)}"
        self._audit.add(mode, version, by, "started", f"share {share:g}{bounds}")
        closed = gone(before, self._models.lineup)
        del lineup, serving, candidate, trial, before
        let_go(closed)

    def _load(self, version: int | None) -> None:
        self._activate(self._models.newest() if version is None else version, "protocol")

    def _unload(self, version: int | None) -> None:
        lineup = self._models.lineup
        serving = self._serving(lineup)
        if version == serving.version or (version is None and lineup.previous is None and lineup.trial is None):
            raise ModelFixed(
                f"expected a version that does not serve, got {serving.version}, which does and has to stay; "
                "activate another first"
            )
        if version is not None and lineup.find(version) is None:
            raise ModelUnknown(f"expected a version that is open, got {version}; see /models")
        tried = None if lineup.trial is None else lineup.trial.candidate.version
        previous = None if lineup.previous is None else lineup.previous.version
        del lineup, serving  # they hold what is let go of below
        if tried is not None and version in {None, tried}:
            self._end_trial("protocol", "ended", None)
        if previous is not None and version in {None, previous}:
            before = self._models.change(previous=None)
            self._audit.add("unload", previous, "protocol", "unloaded")
            closed = gone(before, self._models.lineup)
            del before
            let_go(closed)

    def _rescan(self, by: str) -> None:
        lineup = self._models.lineup
        newest = max(slot.version for slot in (self._serving(lineup), lineup.trial and lineup.trial.candidate) if slot)
        tried = None if lineup.trial is None or lineup.trial.by != "api" else lineup.trial.candidate.version
        del lineup
        for version in self._models.newer(newest):
            if version in self._declined:
                continue
            if by == "poll" and tried is not None:  # whoever began it decides when it is over
                self._hold_back(version, tried)
                return
            try:
                if self._rules.gate is None:
                    self._activate(version, by)
                else:
                    self._attempt("shadow", version, self._rules.shadow_share, self._rules.gate, by)
            except (ModelFixed, VersionUnavailable):
                continue  # its reason is in the audit trail; the next older one may do
            return

    def _hold_back(self, version: int, tried: int) -> None:
        """Let a version that has been found wait, and say so once."""
        if version not in self._held_back:
            self._held_back.add(version)
            _log.info("version %d is there; it waits until the trial of version %d is over", version, tried)

    def _decided(self, trial: Trial, verdict: str, reason: str) -> None:
        self._submit(self._settle, weakref.ref(trial), verdict, reason)

    def _settle(self, decided: weakref.ref[Trial], verdict: str, reason: str) -> None:
        """Do what a trial's gate says, unless somebody was quicker."""
        trial = decided()
        if trial is None or self._models.lineup.trial is not trial:
            return
        version = trial.candidate.version
        del trial  # it holds models that may be about to go
        if verdict == "promoted":
            self._audit.add("gate", version, "gate", "promoted", reason)
            self._activate(version, "gate", reason=reason)
        else:
            self._end_trial("gate", "rejected", reason)

    def _end_trial(self, by: str, result: str, reason: str | None) -> None:
        self._end_shadow()
        before = self._models.change(trial=None)
        version = None if before.trial is None else before.trial.candidate.version
        if version is not None:
            self._declined.add(version)
        self._audit.add("end-trial", version, by, result, reason)
        closed = gone(before, self._models.lineup)
        del before
        let_go(closed)

    def _end_shadow(self) -> None:
        shadow, self._shadow = self._shadow, None
        if shadow is not None:
            self._watchers.remove(shadow)
            shadow.close()
            self._metrics.compares_no_more()

    def _open(self, version: int, by: str, action: str) -> Slot:
        try:
            self._models.check_known(version)
            return self._models.open(version, self._vetter.vet if self._rules.vet_s else None, self._aside)
        except BundleOutOfReach as error:
            self._audit.add(action, version, by, "unavailable", str(error))
            raise VersionUnavailable(
                f"expected to have and try version {version} now; the model in service stays, come again: {error}",
                reason="version",
            ) from error
        except (BundleInvalid, ProviderMissing) as error:
            self._audit.add(action, version, by, "refused", str(error))
            raise ModelFixed(
                f"expected version {version} to be a valid bundle, but it is refused and the model in service stays: "
                f"{error}"
            ) from error

    def _provider(self) -> Provider:
        serving = self._models.lineup.serving
        return self._rules.provider if serving is None else serving.engine.provider

    def _serving(self, lineup: Lineup) -> Slot:
        return lineup.serving or self._models.slot()  # which says that it is still being loaded

    def _check_name(self, name: str) -> None:
        if name != self._models.name:
            raise ModelUnknown(f"expected {self._models.name}, the model of this service, got {quoted(name)}")

    # How things get onto that thread.

    async def _do(self, work: Callable[..., None], *arguments: object) -> None:
        if self._waiting >= _MOST_WAITING:
            raise Busy(
                f"expected at most {_MOST_WAITING} changes of models to wait, got one more; come again in a second",
                reason="changes",
            )
        self._waiting += 1
        future = self._worker.submit(_gently, work, *arguments)
        try:
            # A client that hangs up does not stop half way what it began.
            await asyncio.shield(asyncio.wrap_future(future))
        finally:
            self._waiting -= 1

    def _submit(self, work: Callable[..., None], *arguments: object) -> Future[None] | None:
        """Have something done; None if the service stops."""
        try:
            future = self._worker.submit(_gently, work, *arguments)
        except RuntimeError:
            return None
        future.add_done_callback(_report)
        return future

    def _poll(self) -> None:
        while not self._stopped.wait(self._rules.poll_s):
            looked = self._submit(self._rescan, "poll")
            if looked is None:
                return
            wait([looked])


def _gently(work: Callable[..., None], *arguments: object) -> None:
    with interruptible():
        work(*arguments)


def _report(done: Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if isinstance(error, RobomaskError):
        _log.error("models cannot be changed: %s", error)
    elif error is not None:
        _log.error("a fault of this service", exc_info=error)
