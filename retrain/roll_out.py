"""See a published version into service: start it there, and wait for what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from retrain.journal import RetrainError
from retrain.service_state import state_of
from service.client.admin import gate_of, serving_in
from service.client.errors import ServiceRefused, Unavailable, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import JsonValue

    from retrain.config import RetrainConfig
    from retrain.journal import Outcome
    from service.client.admin import Listing, Mode, ModelAdmin
    from service.contract import Bundle

TRIAL_FIGURES = (
    "compared", "answered", "failed", "dropped", "mean_iou", "least_iou", "area_drift", "confidence_drift",
    "latency_ratio",
)  # fmt: skip


class Ending(NamedTuple):
    """How it ended.

    Attributes:
        outcome: Which way.
        reason: Why, in the service's words.
        figures: What the trial found, as last seen.
    """

    outcome: Outcome
    reason: str | None
    figures: dict[str, JsonValue]


def roll_out(
    admin: ModelAdmin,
    bundle: Bundle,
    config: RetrainConfig,
    *,
    anew: bool,
    begun: Callable[[], None],
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> Ending:
    """Bring a version into service as configured, and wait until it serves, is turned away, or time is up.

    What the service is doing with it already is gone on with, not begun again.

    Args:
        admin: The service.
        bundle: The version.
        config: How, and how long to wait.
        anew: Whether a version that a gate has turned away is to be tried again.
        begun: Told when the service has begun what it was told.
        clock: Seconds of a clock that only goes forward.
        wait: Lets so many seconds pass.

    Raises:
        RetrainError: The service serves another model, or other files of that version.
        ClientError: It cannot be reached at the start, or does not let this client change its models.
    """
    version = bundle.manifest.version
    listing = admin.listing()
    _check_name(listing, bundle, config)
    waiting = {"available", "rejected"} if anew else {"available"}
    if config.rollout != "watch" and state_of(listing, version).doing in waiting:
        try:
            listing = _begin(admin, version, config)
        except ServiceRefused as error:
            if error.code != "model-fixed":
                raise
            return Ending("refused", str(error), {})
        begun()
    return _watch(admin, listing, bundle, config, clock=clock, wait=wait)


def _begin(admin: ModelAdmin, version: int, config: RetrainConfig) -> Listing:
    if config.rollout == "activate":
        return admin.activate(version)
    gate = gate_of(config.promote_if) if config.promote_if else None
    mode: Mode = "canary" if config.rollout == "canary" else "shadow"
    return admin.attempt(mode, version, share=config.streams(), promote_if=gate)


def _watch(
    admin: ModelAdmin,
    listing: Listing,
    bundle: Bundle,
    config: RetrainConfig,
    *,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> Ending:
    version, until_s = bundle.manifest.version, clock() + config.timeout_s
    figures: dict[str, JsonValue] = {}
    promotes = config.rollout == "watch" or config.promote_if is not None
    bar = tqdm(desc=f"version {version} in service?", unit="frame", total=_frames(config))
    with bar:
        while True:
            state = state_of(listing, version)
            trial = listing.get("trial") or {}
            if trial.get("version") == version:
                figures = {name: trial[name] for name in TRIAL_FIGURES if name in trial}
                bar.update(trial["compared"] - bar.n)
            if state.doing == "serving":
                _check_hash(listing, bundle)
                return Ending("promoted" if figures else "activated", state.reason, figures)
            if state.doing in {"refused", "rejected", "ended"}:
                return Ending(state.doing, state.reason, figures)
            if state.doing == "on-trial" and not promotes:
                return Ending("on-trial", "somebody has to activate it: no promote_if was given", figures)
            if clock() >= until_s:
                compared = f", {figures['compared']} frames compared" if figures else ""
                reason = f"expected it in service within {config.timeout_s:g} s, it is {state.doing}{compared}"
                return Ending("timed-out", reason, figures)
            wait(config.every_s)
            listing = _look(admin, listing)


def _look(admin: ModelAdmin, last: Listing) -> Listing:
    """Look again; a service that is just being started again, or busy, is as it was last seen."""
    try:
        return admin.listing()
    except (Unreachable, Unavailable):
        return last


def _frames(config: RetrainConfig) -> int | None:
    frames = gate_of(config.promote_if or "").get("frames", "")
    return int(frames) if frames.isdigit() else None


def _check_name(listing: Listing, bundle: Bundle, config: RetrainConfig) -> None:
    name, version = bundle.manifest.name, bundle.manifest.version
    if listing["name"] != name:
        raise RetrainError(f"{config.url}: expected a service of the model {name}, found one of {listing['name']}")
    if config.rollout != "watch" and state_of(listing, version).doing == "absent":
        there = sorted(entry["version"] for entry in listing["versions"])
        raise RetrainError(
            f"{config.url}: expected a service of the repository {config.models}, which has version {version}, found "
            f"versions {there}: start it with --models {config.models}, or wait for its copy with --rollout watch"
        )


def _check_hash(listing: Listing, bundle: Bundle) -> None:
    serving = serving_in(listing) or {}
    if serving.get("sha256") != bundle.sha256:
        raise RetrainError(
            f"expected version {bundle.manifest.version} in service to be {bundle.sha256}, found "
            f"{serving.get('sha256')}: "
            "the service has other files of that version"
        )
