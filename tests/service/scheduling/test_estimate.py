"""What times to reckon with."""

import pytest

from service.scheduling.estimate import RunTime, SizedTime, StageTime


def test_a_machine_that_was_busy_for_a_while_is_tried_again_with_growing_hope() -> None:
    run_time = RunTime()
    run_time.add(1, 0.008, 0.0)
    for run in range(100):
        run_time.add(1, 0.150, run * 0.2)
    ended_s = 99 * 0.2
    assert run_time.hope_s(1, ended_s + 0.5, 0.1, waits=False) > 0.1
    assert run_time.hope_s(1, ended_s + 1.3, 0.1, waits=False) > 0.1
    assert run_time.hope_s(1, ended_s + 2.8, 0.1, waits=False) < 0.1
    assert run_time.hope_s(4, ended_s + 60, 0.1, waits=False) < 0.005
    run_time.add(1, 0.008, ended_s + 3)
    assert run_time.least_s == 0.008


def test_what_no_run_has_come_near_stays_hopeless_for_longer_but_not_for_ever() -> None:
    run_time = RunTime()
    for run in range(20):
        run_time.add(1, 0.140, run * 0.2)
    assert run_time.hope_s(1, 3.8 + 10, 0.02, waits=False) > 0.02
    assert run_time.hope_s(1, 3.8 + 10, 0.1, waits=False) < 0.1
    assert run_time.hope_s(1, 3.8 + 300, 0.02, waits=False) < 0.02


def test_a_long_run_under_way_is_not_taken_for_silence() -> None:
    run_time = RunTime()
    for run in range(20):
        run_time.add(32, 3.2, run * 4.0)
    assert run_time.hope_s(1, 19 * 4.0 + 4, 0.1, waits=False) > 0.05


def test_a_stage_is_forgotten_after_a_second_unless_it_is_at_work() -> None:
    stage = StageTime()
    assert stage.expect_s(5.0) == 0
    for _ in range(50):
        stage.add(0.4, 5.0)
    assert 0.3 < stage.expect_s(5.5) <= 0.4
    assert stage.expect_s(6.5) == 0
    assert stage.expect_s(6.5, at_work=True) > 0.3
    stage.add(0.002, 7.0)
    assert stage.expect_s(7.0) <= 0.002


def test_small_things_are_no_measure_for_large_ones_and_those_of_about_one_size_share_theirs() -> None:
    stage = SizedTime()
    stage.add(0.002, 40_000, 0.0)
    assert stage.expect_s(8_000_000, 0.0) == 0
    stage.add(0.3, 8_000_000, 0.0)
    assert stage.expect_s(6_000_000, 0.0) == pytest.approx(0.225)
    assert stage.expect_s(40_000, 0.0) == 0.002


def test_a_size_of_which_nothing_comes_is_tried_again_with_growing_hope() -> None:
    stage = SizedTime()
    stage.add(8.0, 1000, 0.0)
    assert stage.expect_s(1000, 1.0) == 8
    assert stage.expect_s(1000, 4.0) == pytest.approx(1)
    stage.add(0.5, 1000, 4.0)  # the machine has been busy for a while
    assert stage.expect_s(1000, 4.0) == 0.5
    stage.add(0.1, 1000, 4.1)
    assert stage.expect_s(1000, 4.1) == pytest.approx(0.4)


def test_of_a_budget_that_is_mostly_the_runs_a_part_of_the_rest_may_be_waited_for() -> None:
    quick, slow = RunTime(), RunTime()
    for _ in range(100):
        quick.add(1, 0.01, 0.0)
        slow.add(1, 0.08, 0.0)
    assert quick.hope_s(1, 0.0, 0.1, waits=True) == pytest.approx(0.01 + 0.04)
    assert 0.085 < slow.hope_s(1, 0.0, 0.1, waits=True) < 0.095
    assert slow.hope_s(1, 0.0, 0.07, waits=True) == pytest.approx(0.08)
