"""Every request is a line, in the form that was asked for, written by the time the service has stopped."""

import io
import json
import logging
import re

import pytest

from service.call import Call
from service.telemetry.logs import RequestLog


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
