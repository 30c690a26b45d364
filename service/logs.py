"""Log lines: one form for people, one for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = ["configure", "fields"]


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
