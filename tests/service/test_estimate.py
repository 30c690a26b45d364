"""What times to reckon with."""

from service.estimate import RunTime, StageTime


def test_a_machine_that_was_busy_for_a_while_is_tried_again_with_growing_hope() -> None:
    run_time = RunTime()
    run_time.add(1, 0.008, 0.0)
    for run in range(100):
        run_time.add(1, 0.150, run * 0.2)
    ended_s = 99 * 0.2
    assert run_time.hope_s(1, ended_s + 0.5, 0.1, waits=False) > 0.1
    assert run_time.hope_s(1, ended_s + 1.1, 0.1, waits=False) > 0.1
    assert run_time.hope_s(1, ended_s + 2.5, 0.1, waits=False) < 0.1
    assert run_time.hope_s(4, ended_s + 60, 0.1, waits=False) < 0.001
    run_time.add(1, 0.008, ended_s + 3)
    assert run_time.least_s == 0.008


def test_a_stage_is_forgotten_when_nothing_has_been_seen_of_it_for_a_second() -> None:
    for stage in (StageTime(), StageTime(least=True)):
        assert stage.expect_s(5.0) == 0
        for _ in range(50):
            stage.add(0.4, 5.0)
        assert 0.3 < stage.expect_s(5.5) <= 0.4
        assert stage.expect_s(6.5) == 0
        stage.add(0.002, 7.0)
        assert stage.expect_s(7.0) <= 0.002


def test_the_least_follows_a_quick_one_at_once_and_slow_ones_slowly() -> None:
    stage = StageTime(least=True)
    stage.add(0.3, 0.0)
    stage.add(0.001, 0.1)
    assert stage.expect_s(0.1) == 0.001
    for _ in range(10):
        stage.add(0.3, 0.2)
    assert stage.expect_s(0.2) < 0.05
