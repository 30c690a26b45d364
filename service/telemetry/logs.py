"""Log lines: one form for people, one for machines."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from typing import TextIO

    from service.call import Call

__all__ = ["MOST_LINES", "RequestLog", "configure", "fields"]

_REQUESTS: Final = "service.request"
_LOOK_EVERY_S: Final = 0.2
MOST_LINES: Final = 16_384
"""Lines that wait to be written: several seconds' worth, and some megabytes if nobody reads what is written."""


def fields(**values: Any) -> dict[str, Any]:
    """What a log call passes as `extra` so that its line carries named values; those that are None are left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def configure(level: str, form: Literal["auto", "json", "text"]) -> None:
    """Send the log of this process to standard error."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(_Text() if as_text else _Json())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("python_multipart", "PIL"):  # a client's mistakes are told to the client
        logging.getLogger(chatty).setLevel(logging.ERROR)


class RequestLog:
    """One line a request, in the form of all others, at the cost of putting it together: a thread writes what gathered.

    Lines are written only if the logger `service.request` is enabled for their level. Those that come while too many
    wait are dropped, and their number is written in their place.

    Args:
        form: Form of the lines.
        stream: Where they go; None for standard error.
    """

    def __init__(self, form: Literal["auto", "json", "text"], stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._as_text = form == "text" or (form == "auto" and self._stream.isatty())
        self._logger = logging.getLogger(_REQUESTS)
        self._lines: deque[str] = deque()
        self._dropped = 0  # in all; each of the two numbers is changed by one thread alone
        self._dropped_told = 0
        self._some = threading.Event()
        self._closed = False
        self._writer: threading.Thread | None = None
        self._second = -1
        self._stamp = ""

    def enabled(self, level: int) -> bool:
        """Whether lines of this level are wanted."""
        return self._logger.isEnabledFor(level)

    def add(self, level: int, call: Call, method: str, route: str, status: int) -> None:
        """Add a line. None of what it says needs escaping: every text in it is from a set of ours."""
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1
            return
        now_s = time.time()
        name = logging.getLevelName(level)
        times = [*call.stages_s.items(), ("total", time.perf_counter() - call.arrived_s)]
        if self._as_text:
            end = "".join([f" {stage}_ms={seconds * 1000:.2f}" for stage, seconds in times])
            problem = "" if call.problem is None else f" problem={call.problem}"
            model = "" if call.slot is None else f" version={call.slot.note.version} frames={call.frames}"
            line = (
                f"{self._time(now_s)} {name:<7} request request_id={call.request_id} method={method} route={route} "
                f"status={status}{problem}{model}{end}\n"
            )
        else:
            end = "".join([f', "{stage}_ms": {seconds * 1000:.2f}' for stage, seconds in times])
            problem = "" if call.problem is None else f', "problem": "{call.problem}"'
            model = "" if call.slot is None else f', "version": {call.slot.note.version}, "frames": {call.frames}'
            line = (
                f'{{"time": "{self._time(now_s)}", "level": "{name.lower()}", "logger": "{_REQUESTS}", '
                f'"message": "request", "request_id": "{call.request_id}", "method": "{method}", "route": "{route}", '
                f'"status": {status}{problem}{model}{end}}}\n'
            )
        self._lines.append(line)
        if not self._some.is_set():
            self._some.set()
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_on, name="robomask-request-log", daemon=True)
                self._writer.start()

    def close(self) -> None:
        """Write what is left."""
        self._closed = True
        self._some.set()
        if self._writer is not None:
            self._writer.join()

    def _write_on(self) -> None:
        last = False
        while not last:
            if not self._closed:
                self._some.wait()
            last = self._closed  # looked at before the lines are: none comes after it
            if not last:
                time.sleep(_LOOK_EVERY_S)
            self._some.clear()
            dropped = self._dropped  # before there is room for more: all that was dropped came after what waits
            lines = [self._lines.popleft() for _ in range(len(self._lines))]  # who adds meanwhile adds to the same
            if dropped > self._dropped_told:
                lines.append(self._told(dropped - self._dropped_told))
            with contextlib.suppress(OSError, ValueError):  # a full disk, or nobody reads: the next ones may go
                self._stream.write("".join(lines))
                self._stream.flush()
                self._dropped_told = dropped

    def _told(self, dropped: int) -> str:
        """A line that stands for those that are not there."""
        stamp = self._stamped(int(time.time()))  # the one that is kept is the other thread's
        said = "requests without a line, for too many waited to be written"
        if self._as_text:
            return f"{stamp} WARNING {said} dropped={dropped}\n"
        return (
            f'{{"time": "{stamp}.000+00:00", "level": "warning", "logger": "{_REQUESTS}", "message": "{said}", '
            f'"dropped": {dropped}}}\n'
        )

    def _time(self, now_s: float) -> str:
        """The time as other lines have it; the whole seconds are put together once a second."""
        second = int(now_s)
        if second != self._second:
            self._stamp = self._stamped(second)
            self._second = second
        return self._stamp if self._as_text else f"{self._stamp}.{int((now_s - second) * 1000):03d}+00:00"

    def _stamped(self, second: int) -> str:
        form, zone = ("%H:%M:%S", None) if self._as_text else ("%Y-%m-%dT%H:%M:%S", UTC)
        return datetime.fromtimestamp(second, UTC).astimezone(zone).strftime(form)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class named it
        values = getattr(record, "fields", {})
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in values.items())])
