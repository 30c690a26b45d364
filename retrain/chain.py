"""From new labels to a better model in service: train, publish, roll out; each step once, however often it is begun.

<out>/run.json, ...     the run, as of `robomask train`
<out>/retrain.json      the steps with their times and figures, and the outcome
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from export.pack import pack
from export.predecessor import of_bundle
from export.registry import register
from export.sources import held_out_frames
from export.succession import Gate, WorseModel, sentence
from retrain.in_service import in_service, model_name, published_of
from retrain.journal import Journal, Record, RetrainError, read_record
from retrain.roll_out import roll_out
from service.client.admin import ModelAdmin
from service.contract import Ancestor
from training.config import TrainConfig
from training.data.readers import read_frames
from training.run import RECORD, read_run
from training.start import bundle_network
from training.trainer import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrain.config import RetrainConfig
    from service.contract import Bundle

DONE = {"activated", "promoted", "worse", "refused", "rejected"}
"""Outcomes that another attempt would not change, if it is told the same."""


def retrain(
    config: RetrainConfig, *, token: str | None, clock: Callable[[], float], wait: Callable[[float], None]
) -> Record:
    """Run the steps that are still to be run.

    Args:
        config: The chain.
        token: The service's admin token.
        clock: Seconds of a clock that only goes forward.
        wait: Lets so many seconds pass.

    Returns:
        What was found, as it stands in `retrain.json`.

    Raises:
        RetrainError: The folder belongs to another chain, or the service to another repository.
        ValueError: What `train` raises.
        ExportError: What `pack` raises, but for a worse model, which is an outcome.
        BundleInvalid: No version in the repository is what it says.
        EvaluationError: The version in service cannot be measured.
        ClientError: The service cannot be asked, or does not let this client change its models.
    """
    journal = open_journal(config, clock)
    record = journal.record
    if record.outcome in DONE and not judged_otherwise(config, record):
        return record
    if config.url is not None and config.rollout != "watch" and not token:
        raise RetrainError(
            f"expected ROBOMASK_ADMIN_TOKEN, the service's own, to have {config.url} change its model, found none: set "
            "it, or leave that to the service with --rollout watch"
        )
    for data in (config.gate_data, config.calibration):
        if data is not None:
            read_frames(data)  # what cannot be read is better known before hours of training than after
    train_step(config, journal)
    bundle = publish_step(config, journal)
    if bundle is not None and config.url is not None:
        roll_out_step(config, journal, bundle, token=token, clock=clock, wait=wait)
    return record


def open_journal(config: RetrainConfig, clock: Callable[[], float]) -> Journal:
    """Go on with the record in the folder, or begin one with the version that is in service now.

    Raises:
        RetrainError: The folder belongs to another chain.
    """
    settings = config.told()
    record = read_record(config.out)
    if record is None:
        if (config.out / RECORD).exists():
            raise RetrainError(f"{config.out}: expected a new folder, found a run of `robomask train`: name another")
        before = in_service(config)
        told = config.model.init or config.model.pretrained
        if before is None and told is None:
            raise RetrainError(
                f"{config.models}: expected a version to go on from, found none: publish one first (robomask export), "
                "or name what to start from with --model.init or --model.pretrained"
            )
        record = Record(
            settings=dict(settings),
            before=None if before is None else identity_of(before),
            start=str(before.folder.absolute()) if before is not None and told is None else None,
        )
        config.out.mkdir(parents=True, exist_ok=True)
        journal = Journal(config.out, record, clock)
        journal.write()
        return journal
    try:
        then = config.told_before(record.settings)
    except ValidationError as error:
        raise RetrainError(
            f"{config.out}: expected settings that this version knows, found {error}: name another folder with --out"
        ) from error
    other = [name for name, value in settings.items() if then[name] != value]
    if other:
        raise RetrainError(
            f"{config.out}: expected the settings that it was begun with, found others in {', '.join(other)}: go on "
            "with the same, or name another folder with --out"
        )
    return Journal(config.out, record, clock)


def judged_otherwise(config: RetrainConfig, record: Record) -> bool:
    """Whether a version was turned away by other settings than those of now, which may let it through."""
    if record.outcome == "worse":
        return record.gate != config.gate()
    return record.outcome == "rejected" and tried_otherwise(config, record)


def tried_otherwise(config: RetrainConfig, record: Record) -> bool:
    """Whether the service is known to have been told to try the version in another way than it would be now."""
    return record.trial is not None and record.trial != config.trial()


def train_step(config: RetrainConfig, journal: Journal) -> None:
    """Train from the version that was in service when the chain began, unless the settings name another start."""
    if (config.out / RECORD).is_file():
        return
    with journal.step("train") as step:
        score = train(started_from(config.training(), journal.record.start))
        run = read_run(config.out)
        step.figures = {
            "steps": config.steps,
            "train_frames": run.record["frames"]["train"],
            "held_out_frames": run.record["frames"]["val"],
        }
        if score is not None:
            step.figures["iou"] = score.mean
        step.done = True


def started_from(config: TrainConfig, start: str | None) -> TrainConfig:
    """The training with its start, whose network it takes over."""
    if start is None:
        return config
    settings = config.model_dump()
    settings["model"] |= {"init": start, **bundle_network(Path(start))._asdict()}
    return TrainConfig.model_validate(settings)


def publish_step(config: RetrainConfig, journal: Journal) -> Bundle | None:
    """Publish the run as the next version if it is no worse than the one in service; None if it is.

    A version that an earlier attempt has published is taken as it is.
    """
    before = in_service(config)
    name = before.manifest.name if before is not None else model_name(config)
    made_of = hashlib.sha256((config.out / RECORD).read_bytes()).hexdigest()
    with journal.step("publish") as step:
        try:
            bundle = published_of(config.models, name, made_of) or _publish(config, name, before)
        except WorseModel as error:
            step.figures, step.done = error.comparison.model_dump(mode="json"), True
            journal.record.gate = config.gate()
            journal.end("worse", str(error))
            return None
        found = bundle.manifest.comparison
        step.figures = {"name": name, "version": bundle.manifest.version, "sha256": bundle.sha256}
        if config.log.mlflow != "off":
            step.figures["registered"] = register(bundle, config.log.mlflow, config.out)
        if found is not None:
            step.figures |= {"iou": found.iou, "iou_before": found.iou_before, "compared_on": found.n}
            step.figures["comparison"] = found.model_dump(mode="json")
        step.done = True
    journal.end("published", None if found is None else sentence(found))
    return bundle


def _publish(config: RetrainConfig, name: str, before: Bundle | None) -> Bundle:
    gate = None
    if before is not None:
        data = read_frames(config.gate_data) if config.gate_data else None
        gate = Gate(of_bundle(before), config.gate_tolerance, data, config.gate_data)
    run = read_run(config.out)
    return pack(
        config.out,
        config.models,
        name=name,
        precisions=config.precisions,
        calibration=read_frames(config.calibration) if config.calibration else None,
        held_out=held_out_frames(run) if run.record["frames"]["val"] else None,
        data_name=", ".join(data["name"] for data in run.record["data"]),
        split="held out",
        credit=config.credit,
        gate=gate,
    )


def roll_out_step(
    config: RetrainConfig,
    journal: Journal,
    bundle: Bundle,
    *,
    token: str | None,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> None:
    """See the version into service; one that was turned away is tried again if the service is told otherwise now."""
    record = journal.record

    def note() -> None:
        # At once: an attempt that goes on after this one was killed has to know by what the version is judged.
        record.trial = config.trial()
        journal.write()

    with journal.step("roll-out") as step, ModelAdmin(str(config.url), token) as admin:
        anew = tried_otherwise(config, record)
        ending = roll_out(admin, bundle, config, anew=anew, begun=note, clock=clock, wait=wait)
        step.figures, step.done = ending.figures or step.figures, ending.outcome in DONE
    record.trial = record.trial or config.trial()  # of a trial that the service had begun by itself
    journal.end(ending.outcome, ending.reason)


def identity_of(bundle: Bundle) -> Ancestor:
    """A bundle's name, version and hash."""
    manifest = bundle.manifest
    return Ancestor(kind="bundle", name=manifest.name, version=manifest.version, sha256=bundle.sha256)
