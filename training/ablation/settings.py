"""What a result depends on, and whether those in the folder were made with what is asked for now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from training.ablation.cells import Cell, optim_of, rate_of
from training.ablation.latents import digest
from training.ablation.rows import BY_NAME
from training.begun import flat
from training.data import augment
from training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from training.ablation.config import AblateConfig
    from training.ablation.parts import Parts

SHOWN = 6
"""As many differences are named; where there are more, these are enough to tell which call it was."""


def settings_of(config: AblateConfig, parts: Parts, cell: Cell, frames_sha256: str) -> dict[str, Any]:
    """All that a cell's result depends on, by kind; a row's own settings alone, such as its part of the budget."""
    row = cell.row
    told = {
        "row": row._asdict(),
        "cell": {
            "fold": cell.fold,
            "seed": cell.seed,
            "folds": config.folds,
            "fold_seed": config.fold_seed,
            "data": frames_sha256,
            "pretrained": parts.weights(row),
        },
        "networks": {
            "layers": list(parts.layers),
            "width": config.width,
            "copies": config.copies,
            "sampled_copies": config.sampled_copies,
        },
        "optim": optim_of(config, row).model_dump(mode="json") if row.encoder else None,
        "learning": {
            "budget": config.budget.of(row),
            "augment": config.augment.model_dump(mode="json"),
            "augment_version": augment.VERSION,
        },
    }
    if row.head_first:
        told["rates"] = {"attention_conv": config.rates.attention_conv}
    return told


def key_of(settings: Mapping[str, Any]) -> str:
    """A fingerprint of what `settings_of` gives. Results are kept under it, so that its form must not change."""
    named = ("row", "optim")
    return digest(*(part if kind in named else list(part.values()) for kind, part in settings.items()))


def refuse_other_settings(config: AblateConfig, parts: Parts, frames_sha256: str) -> None:
    """Results that were made otherwise are neither replaced nor left out of the table without a word.

    Args:
        config: What is asked for now.
        parts: Its networks.
        frames_sha256: The fingerprint of its data.

    Raises:
        RunError: There are some, of whatever row; names what differs.
    """
    found: dict[str, None] = {}  # in order, once each
    rows: dict[str, None] = {}
    for result in _results(config):
        cell = Cell(BY_NAME[result["row"]], result["fold"], result["seed"])
        now = settings_of(config, parts, cell, frames_sha256)
        if result["key"] != key_of(now):
            rows[cell.row.name] = None
            found |= dict.fromkeys(_differences(cell, now, result.get("settings")))
    if rows:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise RunError(
            f"{config.out}: expected the settings and data that its results of {', '.join(rows)} were made with, found "
            f"{', '.join(list(found)[:SHOWN])}{more}: repeat what they were made with, name another folder with --out, "
            f"or delete {config.out / 'results'}/ROW.* of rows that are to be done anew"
        )


def _results(config: AblateConfig) -> Iterator[dict[str, Any]]:
    """The results in the folder, without their masks; those of rows that there are no more do not count."""
    for file in sorted((config.out / "results").glob("[!.]*.json")):
        result = json.loads(file.read_text())
        if result["row"] in BY_NAME:
            yield result


def _differences(cell: Cell, now: Mapping[str, Any], there: Mapping[str, Any] | None) -> list[str]:
    """For each setting that differs its name, as a flag has it where there is one, and both values."""
    if there is None:
        return ["others (its results are of a version that did not write down which)"]
    here, before = _named(cell, now), _named(cell, there)
    names = [name for name in here | before if here.get(name) != before.get(name)]
    return [f"{name} {_shown(here.get(name))} now, {_shown(before.get(name))} there" for name in names]


def _named(cell: Cell, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names of their flags, from what JSON makes of them."""
    told = json.loads(json.dumps(settings))
    named = dict(flat({**told["cell"], **told["networks"], **told["learning"]}))
    optim = told["optim"] or {}
    if "lr" in optim:
        named[f"rates.{rate_of(cell.row)}"] = optim.pop("lr")
    return named | dict(flat({"optim": optim, "rates": told.get("rates", {}), "row": told["row"]}))


def _shown(value: object) -> str:
    """A value as a person reads it; of a fingerprint the beginning."""
    return "none" if value in (None, "") else str(value)[:40] if isinstance(value, list) else str(value)[:12]
