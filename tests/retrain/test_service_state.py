"""What a listing of `/models` says about one version."""

from typing import Any

import pytest

from retrain.service_state import state_of


def event(result: str, version: int = 2, reason: str | None = None) -> dict[str, Any]:
    return {"version": version, "result": result, "reason": reason}


@pytest.mark.parametrize(
    ("state", "events", "doing"),
    [
        (None, [], "absent"),
        ("available", [], "available"),
        ("available", [event("rejected", 1)], "available"),
        ("serving", [event("activated")], "serving"),
        ("shadow", [event("started")], "on-trial"),
        ("canary", [event("started"), event("rejected")], "on-trial"),
        ("available", [event("rejected"), event("started")], "rejected"),
        ("available", [event("ended"), event("started")], "ended"),
        ("previous", [event("activated", 1), event("activated")], "ended"),
        ("refused", [event("refused")], "refused"),
        ("available", [event("unavailable")], "available"),
        ("available", [event("unavailable"), event("rejected")], "rejected"),
    ],
)
def test_a_version_is_doing_one_thing(state: str | None, events: list[dict[str, Any]], doing: str) -> None:
    there = [] if state is None else [{"version": 2, "state": state}]
    assert state_of({"versions": [*there, {"version": 1, "state": "available"}], "events": events}, 2).doing == doing


def test_the_gates_reason_is_the_services_own() -> None:
    listing = {"versions": [{"version": 2, "state": "available"}], "events": [event("rejected", reason="too slow")]}
    assert state_of(listing, 2).reason == "too slow"
