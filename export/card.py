"""The model card that travels with a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.gate import Verdict
    from export.parity import Parity
    from service.contract import Comparison, Lineage, Metric
    from training.config import HeadName
    from training.run import Run


_SCORES: Final = "How well it does"

_DECODERS: dict[HeadName, str] = {
    "attention-conv": "8-head self-attention over the latents, two transposed convolutions and a convolution",
    "attention-skips": "8-head self-attention over the latents, then transposed convolutions that also see the "
    "encoder's\n32x32 and 64x64 levels, and a convolution",
}


class Report(NamedTuple):
    """What an export has found out, for the card.

    Attributes:
        name: The model's.
        metrics: Its scores.
        parity: How far PyTorch and ONNX are apart.
        verdicts: What other precisions cost.
        comparison: With the version before it, if it was compared.
        measured: Whether it was measured now; if not, its scores are those of before.
    """

    name: str
    metrics: Sequence[Metric]
    parity: Parity
    verdicts: Sequence[Verdict]
    comparison: Comparison | None
    measured: bool


def card(name: str, run: Run, lineage: Lineage, *, metrics: Sequence[Metric], parity: Parity, credit: str) -> str:
    """The card as Markdown: what the model is for, what it learned from, how well it does, how it was made."""
    data = "\n".join(f"| {d['name']} | `{d['sha256'][:16]}…` |" for d in run.record["data"])
    frames, scenes = run.record["frames"], {side: len(names) for side, names in run.record["split"].items()}
    held_out = f"{frames['val']} frames of {scenes['val']} other scenes" if frames["val"] else "none"
    return f"""# {name}

Marks the pixels of a 64x64 camera frame that belong to the robot's own arm.

**Network.** The frame encoder of VideoGPT (3D ResNet-34 layout, 16x16x240 latents, run as its exact 2D collapse),
{_DECODERS[run.config.model.head]} to one probability per pixel.
Weights are float16 numbers; arithmetic is float32.

**Input** `frames` uint8 [N,64,64,3] RGB. **Output** `probability` float32 [N,64,64], `latents` float32 [N,16,16,240].

## What it learned from

| data | sha256 of its pixels, masks and scenes |
|---|---|
{data}

{credit}

{frames["train"]} labelled frames of {scenes["train"]} scenes were trained on, {held_out} held out. {_weights(run)}
A pixel is robot from a probability of {run.threshold:g} on: of the thresholds whose mean IoU on frames learned from is
within a standard error of the best one's, the nearest to 0.5.

## {_SCORES}

{_scores(metrics)}

## What it is for, and what not

For frames of the set-up it was trained on: one arm, seen by a fixed camera. Other robots, cameras or crops need
labels of their own; expect less on frames unlike the training data until then. It says nothing about people or other
moving things, and is no safety device. Typical errors: single pixels along the edge, finger tips against dark toys,
thin parts of distant arms, text painted over the picture.

## How it was made

{_commands(lineage)}

{_made(run, lineage)}, finished {lineage.created.isoformat()}.{_parent(lineage)}
Largest difference of a probability at export: {parity.collapsed:.1e} between the network as published and its
collapse, {parity.onnx:.1e} between the network as published and this bundle's ONNX file.
"""


def card_again(text: str, report: Report, credit: str) -> str:
    """The card of a bundle that is exported once more: its present name and, if it was measured again, its new scores.

    Args:
        text: The bundle's card.
        report: What was found this time.
        credit: Who made the data that it was measured on, and their licence; none leaves it out.
    """
    _, _, rest = text.partition("\n")
    text = f"# {report.name}\n{rest}"
    if report.measured:
        text = _in_place(text, _SCORES, "\n\n".join([_scores(report.metrics), *([credit] if credit else [])]))
    return with_precisions(with_comparison(text, report.comparison), report.verdicts)


def _scores(metrics: Sequence[Metric]) -> str:
    measured = "\n".join(
        f"| {m.name} | {m.value:.4f} | {m.data}, {m.split} | {m.n} |"
        for m in metrics
        if m.precision in {None, "fp32"}  # what others lose stands under Precisions
    )
    return f"""| measure | value | on | frames |
|---|---|---|---|
{measured}

IoU is the robot pixels' intersection over union at the model's threshold: mean, standard deviation (sd), 5th percentile
and worst over images, and that of all images' pixels together (dataset). `quality` is the data set's own word for the
kind of copy that a picture is.

![Frames, each beside its mask, from the worst to the best](example.png)

Green: prediction and label agree. Red: only the prediction says robot. Blue: only the label does. The first are what
fails."""


def _weights(run: Run) -> str:
    """The sentences on how the weights came about."""
    mean_of = run.record.get("mean_of")
    if mean_of is None:
        return "The weights are\nthe running average at the end of the schedule; no checkpoint was picked by its score."
    count = len(mean_of["runs"])
    runs = f"{count} runs" if count > 1 else "one run"
    start = f", and of what {'they' if count > 1 else 'it'} started from" if mean_of["start"] else ""
    return (
        f"The weights are\nthe mean of those of {runs}{start}, each with equal share; of a run, "
        "the running average at the end of the\nschedule: no checkpoint of a run was picked by its score."
    )


def _made(run: Run, lineage: Lineage) -> str:
    """By which seed and code; of a mean also by which code its runs were trained."""
    mean_of = run.record.get("mean_of")
    if mean_of is None:
        return f"Seed {lineage.seed}, code revision `{lineage.code_revision}`"
    revisions = dict.fromkeys(f"`{each.get('code_revision')}`" for each in mean_of["runs"])
    return f"Trained by code revision {', '.join(revisions)}, averaged by `{lineage.code_revision}`"


def _commands(lineage: Lineage) -> str:
    """A command a line, as code."""
    return "\n".join(f"    {command}" for command in lineage.command.split(" && "))


def _parent(lineage: Lineage) -> str:
    """The sentence on the model whose weights the run started from."""
    parent = lineage.parent
    if parent is None:
        return ""
    version = f" version {parent.version}" if parent.version else ""
    return f"\nStarted from the {parent.kind} {parent.name}{version}, sha256 `{parent.sha256}`."


def with_comparison(text: str, found: Comparison | None) -> str:
    """A card with a section on how the model compares with the one before it; it takes the place of an older one."""
    if found is None:
        return _with_section(text, "Against the version before", "")
    known = "" if found.other_data_known else " What one of the models has learned from is not known."
    other = f"{found.against.name} version {found.against.version}, `{found.against.sha256[:16]}…`"
    return _with_section(
        text,
        "Against the version before",
        f"""| model | mean IoU | frames |
|---|---|---|
| this one, {found.precision} | {found.iou:.4f} | {found.n} |
| {other} | {found.iou_before:.4f} | {found.n} |

The same frames of {found.data}; {found.left_out} were left out because one of the models has learned from their
scenes.{known} Difference {found.iou - found.iou_before:+.4f}, standard error {found.standard_error:.4f}; better on
{found.better} frames, worse on {found.worse}; {found.tolerance:g} less was allowed.""",
    )


def with_precisions(text: str, verdicts: Sequence[Verdict]) -> str:
    r"""A card with a section on what precisions other than fp32 cost; it takes the place of an older one.

    >>> with_precisions("# arm\n\n## Precisions\nold\n\n## Use\nyes\n", [])
    '# arm\n\n## Use\nyes\n'
    """
    rows = "\n".join(
        f"| {v.precision} | {v.agreement:.4f} | {f'{v.drop:+.4f}' if v.labelled else 'not measured'} | {v.n} |"
        for v in verdicts
    )
    body = f"""| precision | IoU of its masks with those of fp32 | mean IoU lost against the labels | frames |
|---|---|---|---|
{rows}

fp16 is for GPUs and reads its weights out of the fp32 file. int8 is for CPUs."""
    return _with_section(text, "Precisions", body if verdicts else "")


def _with_section(text: str, title: str, body: str) -> str:
    """A text that ends in a section, in place of an older one of that title; without a body it has none."""
    text = _in_place(text, title, "")
    return f"{text.rstrip()}\n\n## {title}\n\n{body}\n" if body else text


def _in_place(text: str, title: str, body: str) -> str:
    """A text of which a section has another body, or is not there any more; as it is where it has no such section."""
    before, found, after = text.partition(f"## {title}\n")
    if not found:
        return text
    rest = after[at:] if (at := after.find("\n## ")) >= 0 else ""
    section = f"\n\n## {title}\n\n{body}\n" if body else "\n"
    return before.rstrip() + section + rest
