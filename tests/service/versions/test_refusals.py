"""What is refused for good waits for other files, and what may pass for a while."""

import pytest

from service.contract import BundleInvalid, BundleOutOfReach
from service.versions.refusals import Refusals


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> Refusals:
    return Refusals(clock)


def test_what_is_invalid_is_tried_again_with_other_files_only(refusals: Refusals, clock: Clock) -> None:
    assert refusals.allow(2, lambda: "files")
    assert not refusals.add(2, BundleInvalid("expected another"), "files", took_s=1).passes
    clock.now_s += 1e9
    assert not refusals.allow(2, lambda: "files")
    assert not refusals.allow(2, lambda: None)  # who cannot look at it cannot open it either
    assert refusals.allow(2, lambda: "other files")
    refusals.forget(2)
    assert refusals.allow(2, lambda: "files")


def test_what_may_pass_is_tried_again_after_pauses_that_grow_to_five_minutes(refusals: Refusals, clock: Clock) -> None:
    pauses = []
    for _ in range(12):
        refusal = refusals.add(2, BundleOutOfReach("expected a store"), "files", took_s=0.1)
        assert refusal.passes
        assert not refusals.allow(2, lambda: "files")
        clock.now_s += refusal.pause_s - 0.01
        assert not refusals.allow(2, lambda: "files")
        assert refusals.allow(2, lambda: "other files")
        clock.now_s += 0.01
        assert refusals.allow(2, lambda: "files")
        pauses.append(refusal.pause_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert refusals.all[2].reason == "expected a store"


def test_no_more_than_half_of_the_time_goes_into_trying(refusals: Refusals) -> None:
    assert refusals.add(2, BundleOutOfReach("expected time"), "files", took_s=600).pause_s == 600


def test_pauses_begin_anew_after_another_refusal(refusals: Refusals) -> None:
    for error in (BundleOutOfReach("a"), BundleOutOfReach("b"), BundleInvalid("c")):
        refusals.add(2, error, "files", took_s=0)
    assert refusals.add(2, BundleOutOfReach("d"), "files", took_s=0).pause_s == 1
