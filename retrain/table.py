"""The steps of a chain as a table for people: step, time, figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue

    from retrain.journal import Record


def table(record: Record) -> str:
    """One line for each step that was begun, and one for the outcome."""
    lines = [f"{'step':<10} {'seconds':>9}  figures"]
    for name, step in record.steps.items():
        lines.append(f"{name:<10} {step.seconds:>9.1f}  {_figures(step.figures) or 'not done'}")
    reason = f": {record.reason}" if record.reason else ""
    return "\n".join([*lines, f"{'outcome':<10} {'':>9}  {record.outcome or 'none yet'}{reason}"])


def _figures(figures: dict[str, JsonValue]) -> str:
    """The numbers and names; what is nested stands in the outcome's sentence already."""
    return ", ".join(f"{name} {_short(value)}" for name, value in figures.items() if not isinstance(value, dict | list))


def _short(value: JsonValue) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)[:12] if isinstance(value, str) else str(value)
