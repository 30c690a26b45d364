"""`retrain.json` in the run folder: how far the chain has come, how long each step took, and what it found."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from service.contract import Ancestor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "retrain.json"

Outcome = Literal[
    "published", "activated", "promoted", "on-trial", "worse", "refused", "rejected", "ended", "timed-out"
]
StepName = Literal["train", "publish", "roll-out"]


class RetrainError(ValueError):
    """A chain that cannot go on; the message says what was expected, what was found, and what to do."""


class Step(BaseModel):
    """One step.

    Attributes:
        seconds: What it took, over all attempts.
        attempts: How often it was begun.
        done: Whether it has come to its end.
        figures: What it found.
    """

    seconds: float = 0.0
    attempts: int = 0
    done: bool = False
    figures: dict[str, JsonValue] = {}


class Record(BaseModel):
    """What is written.

    Attributes:
        settings: Of the training.
        before: The version in service when the chain began; none if there was none.
        start: The folder of weights that the training starts from.
        steps: By name.
        outcome: How it ended; none as long as it has not.
        reason: Why, if there is more to say.
        gate: By which settings the run was last found worse than the version in service; none if it was not, or in
            records that do not say.
        trial: How the service was last told to try the version; none if it was not, or in records that do not say.
    """

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, JsonValue]
    before: Ancestor | None
    start: str | None
    steps: dict[StepName, Step] = {}
    outcome: Outcome | None = None
    reason: str | None = None
    gate: dict[str, JsonValue] | None = None
    trial: dict[str, JsonValue] | None = None


class Journal:
    """A record and its file, written anew whenever a step begins or ends.

    Args:
        folder: The run folder.
        record: What is known so far.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, folder: Path, record: Record, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.record = record
        self._clock = clock

    @contextmanager
    def step(self, name: StepName) -> Iterator[Step]:
        """Count an attempt at a step and its time, interrupted or not; the caller fills in figures and `done`."""
        step = self.record.steps.setdefault(name, Step())
        step.attempts += 1
        self.write()
        started, before = self._clock(), step.seconds
        try:
            yield step
        finally:
            step.seconds = round(before + self._clock() - started, 3)
            self.write()

    def end(self, outcome: Outcome, reason: str | None = None) -> None:
        """Note how it ended."""
        self.record.outcome, self.record.reason = outcome, reason
        self.write()

    def write(self) -> None:
        """Write the file, which is never seen half."""
        temporary = self.folder / f".{FILE}"
        temporary.write_text(self.record.model_dump_json(indent=2) + "\n")
        temporary.replace(self.folder / FILE)


def read_record(folder: Path) -> Record | None:
    """What an earlier attempt has left; None if there was none.

    Raises:
        RetrainError: Something else is in its place.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return Record.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise RetrainError(f"{file}: expected the record of `robomask retrain`, found {error}") from error
