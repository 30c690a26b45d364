"""Every request is a line, in the form that was asked for, written by the time the service has stopped."""

import io
import json
import logging
import re
import threading
from typing import Literal

import pytest

from service.call import Call
from service.telemetry.logs import MOST_LINES, RequestLog


@pytest.mark.parametrize("count", [0, 1, 500])
def test_lines_are_whole_json_objects_in_order(count: int) -> None:
    stream = io.StringIO()
    log = RequestLog("json", stream)
    for number in range(count):
        call = Call(f"id-{number}", stages_s={"decode": 0.0015})
        call.problem = "busy" if number % 2 else None
        log.add(logging.INFO, call, "POST", "/segment", 200)
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["request_id"] for line in lines] == [f"id-{number}" for number in range(count)]
    for line in lines[:2]:
        assert (line["level"], line["route"], line["status"], line["decode_ms"]) == ("info", "/segment", 200, 1.5)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
        assert ("problem" in line) == (line["request_id"] == "id-1")


def test_lines_for_people_name_their_values() -> None:
    stream = io.StringIO()
    log = RequestLog("text", stream)
    log.add(logging.INFO, Call("a"), "GET", "/models", 200)
    log.close()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO    request request_id=a method=GET route=/models status=200 total_ms=[\d.]+\n",
        stream.getvalue(),
    )


def test_a_disk_that_was_full_for_a_while_costs_only_what_was_said_meanwhile() -> None:
    class Full(io.StringIO):
        refused = 0

        def write(self, text: str) -> int:
            if not self.refused:
                self.refused += 1
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    log = RequestLog("json", stream)
    log.add(logging.INFO, Call("first"), "POST", "/segment", 200)
    while not stream.refused:
        pass
    log.add(logging.INFO, Call("second"), "POST", "/segment", 200)
    log.close()
    assert [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()] == ["second"]


class Stuck(io.StringIO):
    """A pipe that nobody reads until somebody does."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.go.wait(60)
        return super().write(text)


@pytest.mark.parametrize("form", ["json", "text"])
def test_while_nobody_reads_so_many_lines_wait_and_the_number_of_the_others_is_told(
    form: Literal["json", "text"],
) -> None:
    stream = Stuck()
    log = RequestLog(form, stream)

    def add(request_id: str) -> None:
        log.add(logging.INFO, Call(request_id), "POST", "/segment", 200)

    add("first")
    assert stream.entered.wait(60)
    for number in range(MOST_LINES + 7):
        add(f"id-{number}.")
    assert len(log._lines) == MOST_LINES
    stream.go.set()
    while len(stream.getvalue().splitlines()) < 1 + MOST_LINES + 1:
        pass
    add("last")
    log.close()
    lines = stream.getvalue().splitlines()
    assert "id-0." in lines[1]
    assert f"id-{MOST_LINES - 1}." in lines[-3]
    assert "last" in lines[-1]
    if form == "json":
        assert all(map(json.loads, lines))
        told = json.loads(lines[-2])
        assert (told["level"], told["dropped"]) == ("warning", 7)
    else:
        assert re.fullmatch(r"\d\d:\d\d:\d\d WARNING requests without a line.* dropped=7", lines[-2])


def test_what_comes_while_the_last_lines_are_written_is_written_too() -> None:
    stream = Stuck()
    log = RequestLog("json", stream)
    log.add(logging.INFO, Call("first"), "POST", "/segment", 200)
    assert stream.entered.wait(60)
    log.add(logging.INFO, Call("second"), "POST", "/segment", 200)
    closing = threading.Thread(target=log.close)
    closing.start()
    while not log._closed:
        pass
    stream.go.set()
    closing.join(60)
    assert [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()] == ["first", "second"]
