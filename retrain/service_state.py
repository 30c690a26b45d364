"""What a service's listing of models says about one version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from service.client.admin import Listing

Doing = Literal["absent", "available", "on-trial", "serving", "refused", "rejected", "ended"]


class State(NamedTuple):
    """What a version is doing, and why if there is more to say.

    Attributes:
        doing: absent: the service sees no such version. available: it sees it, and nothing was done with it. on-trial,
            serving: that. refused: it broke the contract. rejected: its trial's gate said no. ended: it was on trial or
            in service, and somebody has ended that.
        reason: The service's own words.
    """

    doing: Doing
    reason: str | None = None


def state_of(listing: Listing, version: int) -> State:
    """Read the state of a version out of the document of `/models`.

    >>> state_of({"versions": [{"version": 2, "state": "serving"}], "events": []}, 2).doing
    'serving'
    """
    found = next((entry for entry in listing["versions"] if entry["version"] == version), None)
    events = [event for event in listing["events"] if event.get("version") == version]
    events = [event for event in events if event.get("result") != "unavailable"]  # a fault that may pass, tried again
    newest = events[0] if events else {}
    reason = newest.get("reason")
    if found is None:
        return State("absent")
    if found["state"] == "serving":
        return State("serving", reason)
    if found["state"] in {"shadow", "canary"}:
        return State("on-trial")
    if found["state"] == "refused":
        return State("refused", found.get("reason"))
    if newest.get("result") in {"rejected", "refused"}:
        return State(newest["result"], reason)
    return State("ended", reason) if newest else State("available")
