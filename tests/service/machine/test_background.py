"""Work that may hang is waited for until nobody wants it any more."""

import threading

import pytest

from service.machine.background import LeftBehind, leavable


def test_what_the_work_gives_or_raises_is_given_or_raised() -> None:
    def late() -> None:
        raise TimeoutError("the store's own")

    assert leavable(lambda: 7, lambda: True) == 7
    with pytest.raises(TimeoutError, match="the store's own"):
        leavable(late, lambda: False)


def test_work_that_hangs_is_left_when_nobody_waits_for_it() -> None:
    over = threading.Event()
    with pytest.raises(LeftBehind):
        leavable(lambda: over.wait(60), lambda: True)
    assert not over.is_set()
    over.set()
