"""How long an event loop keeps requests waiting is known from how long its turns take."""

import asyncio

import pytest

from service.scheduling.turns import Turns


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def turn(turns: Turns, clock: Clock, requests: int, seconds: float, refused: int = 0) -> float:
    """Let a turn pass in which so many requests come; what the last of them would have to wait."""
    wait_s = 0.0
    for index in range(requests):
        wait_s = turns.ask()
        if index >= refused:
            turns.take()
    clock.now_s += seconds
    await asyncio.sleep(0)
    return wait_s


def test_a_loop_that_keeps_up_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        clock = Clock()
        turns = Turns(clock)
        for _ in range(10):
            assert await turn(turns, clock, requests=2, seconds=0.02) == 0.0
            assert not turns.is_behind

    asyncio.run(scenario())


def test_requests_that_come_by_many_wait_for_several_turns() -> None:
    async def scenario() -> None:
        clock = Clock()
        turns = Turns(clock)
        await turn(turns, clock, requests=10, seconds=0.01)  # from its end on turns are timed
        await turn(turns, clock, requests=10, seconds=0.01)
        assert turns.is_behind
        assert turns.ask() == pytest.approx(4 * 0.01)

    asyncio.run(scenario())


def test_what_a_turn_has_taken_on_so_far_counts() -> None:
    async def scenario() -> None:
        clock = Clock()
        turns = Turns(clock)
        for _ in range(3):
            await turn(turns, clock, requests=10, seconds=0.01)
        for _ in range(30):  # a millisecond each
            turns.ask()
            turns.take()
        assert turns.ask() == pytest.approx(4 * 0.03)

    asyncio.run(scenario())


def test_what_is_refused_counts_for_less() -> None:
    async def waits_after(refused: int) -> float:
        clock = Clock()
        turns = Turns(clock)
        for _ in range(3):
            await turn(turns, clock, requests=10, seconds=0.01, refused=refused)
        clock.now_s += 0.02
        before_s = turns.ask()
        turns.take()
        return turns.ask() - before_s

    assert asyncio.run(waits_after(refused=5)) == pytest.approx(4 * 0.01 / 6.5)


def test_a_loop_that_has_caught_up_keeps_nobody_waiting_any_more() -> None:
    async def scenario() -> None:
        clock = Clock()
        turns = Turns(clock)
        for _ in range(3):
            await turn(turns, clock, requests=10, seconds=0.01)
        await turn(turns, clock, requests=1, seconds=0.0)
        assert not turns.is_behind
        assert turns.ask() == 0.0

    asyncio.run(scenario())


def test_requests_that_are_taken_on_without_being_asked_for_count_too() -> None:
    async def scenario() -> None:
        clock = Clock()
        turns = Turns(clock)
        for _ in range(2):
            for _ in range(10):
                turns.take()
            clock.now_s += 0.01
            await asyncio.sleep(0)
        assert turns.is_behind

    asyncio.run(scenario())
