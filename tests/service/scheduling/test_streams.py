"""Which frames of a stream are answered, and in which order."""

import math

import pytest

from service.errors import Superseded
from service.scheduling.streams import Stage, Streams


def test_a_frame_is_old_as_soon_as_a_newer_one_waits_and_until_that_one_has_failed() -> None:
    streams = Streams()
    newer = streams.open("a", 2.0)
    older = streams.open("a", 1.0)  # the newer one may still be refused
    newer.reach(Stage.DECODING)
    with pytest.raises(Superseded):
        older.check(Stage.DECODING)
    with pytest.raises(Superseded):
        streams.open("a", 1.5)
    older.check(Stage.MODEL)  # had it been decoded, the model would not wait for the newer one
    newer.reach(Stage.MODEL)
    with pytest.raises(Superseded):
        older.check(Stage.MODEL)
    newer.leave()
    older.check(Stage.DECODING)
    older.leave()


def test_no_answer_goes_out_after_that_to_a_newer_frame() -> None:
    streams = Streams()
    older, newer, newest = (streams.open("a", newness) for newness in (1.0, 2.0, 3.0))
    newer.answer()
    newer.leave()
    with pytest.raises(Superseded):
        older.answer()
    newest.answer()
    other = streams.open("b", 1.0)
    other.answer()


def test_a_frame_that_says_the_same_time_as_the_one_before_is_no_older() -> None:
    streams = Streams()
    for _ in range(2):
        turn = streams.open("a", 1.0)
        turn.reach(Stage.DECODING)
        turn.reach(Stage.MODEL)
        turn.answer()


def test_a_stream_is_known_a_while_after_its_last_answer_and_then_a_clock_that_was_set_back_is_believed() -> None:
    now = [0.0]
    streams = Streams(lambda: now[0])
    turn = streams.open("a", 9.0)
    turn.answer()
    turn.leave()
    for now[0] in (1.0, 4.9):
        with pytest.raises(Superseded):
            streams.open("a", 8.0)
    now[0] = 5.1
    again = streams.open("a", 8.0)
    again.answer()
    again.leave()
    assert len(streams) == 1


def test_streams_are_forgotten_the_sooner_the_more_there_are_but_none_that_has_frames_in_flight() -> None:
    now = [0.0]
    streams = Streams(lambda: now[0])
    slow = streams.open("slow", 1.0)
    quick = streams.open("slow", 2.0)
    quick.answer()
    quick.leave()
    for number in range(5000):
        turn = streams.open(number, 1.0)
        turn.answer()
        turn.leave()
    assert len(streams) < 2000
    with pytest.raises(Superseded):
        slow.answer()
    now[0] = 10.0
    slow.leave()
    assert len(streams) == 1


def test_frames_that_are_not_answered_leave_nothing_behind() -> None:
    streams = Streams()
    for number in range(100):
        turn = streams.open(number, math.inf)
        turn.reach(Stage.DECODING)
        turn.leave()
    assert len(streams) == 0
