"""The loop from new labels to a better model in service, run for real with the commands that people use, and timed.

    python -m benchmarks.loop --data labelled.npz --out loop
    python -m benchmarks.loop --data labelled.npz --simulated simulated/ --pretrained runs/prior --out loop
    python -m benchmarks.loop --data labelled.npz --out tiny --epochs 1 --epochs-again 1 --steps-per-epoch 2 \
        --precisions fp32 --promote-if frames=5 --tolerance 1 -- --model.layers 1 1 1 1 --batch-size 2

1. `robomask train` on half of the labelled training scenes, `robomask export` as version 1, `robomask serve`.
2. A camera sends frames from here on, one after the other at a fixed rate.
3. The other half's labels arrive: `robomask retrain` trains on from version 1, compares with it on the scenes held out,
   publishes version 2 and has it run in shadow until it is promoted.
4. `robomask evaluate` asks the service for the scenes held out, as it did before.

What comes after `--` goes to both `train` and `retrain`. An interrupted loop goes on when it is started again. The
scenes held out are those marked `val`, the same throughout; neither model sees them, and nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.bench.servers import bundle_options, serving
from service.client import Client, ClientError
from training.data.readers import read_frames

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from training.data.frames import FrameSet

_TOKEN = "benchmark"  # noqa: S105 - of a service that lives as long as the measurement
_NAME = "robot-arm"
_OUTCOMES = frozenset({0, 3, 4})
"""Statuses of `robomask retrain` with an outcome that stays; after an error, or if time ran out, it has to go on."""


def main() -> None:
    """Run the loop and print the table."""
    chosen = _parser().parse_args()
    os.environ["ROBOMASK_ADMIN_TOKEN"] = _TOKEN
    out: Path = chosen.out
    out.mkdir(parents=True, exist_ok=True)
    frames = read_frames(chosen.data)
    first, second = out / "first.npz", out / "second.npz"
    if not second.exists():
        halves(frames, first, second, chosen.seed)
    steps = Steps(out / "loop.json")
    beside = [str(chosen.simulated)] if chosen.simulated else []
    shares = [_shares(files, chosen) for files in (1, 2)]
    shared = ["--steps-per-epoch", str(chosen.steps_per_epoch), "--seed", str(chosen.seed), *chosen.options]
    models, bundle = out / "models", out / "models" / _NAME / "1"
    start = ["--model.pretrained", str(chosen.pretrained)] if chosen.pretrained else []
    start += ["--init", str(chosen.init)] if chosen.init else []
    one = ["--out", str(out / "first"), "--epochs", str(chosen.epochs), "--data.train", str(first), *beside]
    one += shares[0]
    steps.run("train on the first half", "train", *one, *start, *shared)
    export = [str(out / "first"), "--models", str(models), "--precisions", chosen.precisions, "--name", _NAME]
    steps.run("export as version 1", "export", *export, "--data", str(first))
    steps.run("evaluate version 1", "evaluate", str(bundle), "--data", str(first), "--split", "val")
    with serving([*bundle_options(bundle), "--provider", "cpu"], chosen.port) as served:
        url = served.url
        steps.note("service ready", served.ready_s, "version 1")
        camera = Camera(url, frames, chosen.fps)
        again = ["--out", str(out / "second"), "--epochs", str(chosen.epochs_again), "--models", str(models)]
        again += ["--data.train", str(first), str(second), *beside, "--precisions", chosen.precisions]
        again += shares[1]
        again += ["--url", url, "--promote-if", chosen.promote_if, "--gate-tolerance", str(chosen.tolerance)]
        with camera:
            status = steps.run("retrain", "retrain", *again, *shared, final=_OUTCOMES)
        steps.run("evaluate the service", "evaluate", url, "--data", str(first), "--split", "val")
        last = _version(url)
    print(table(steps, out / "second" / "retrain.json", camera, last, halves_of(first, second)))
    if status:
        raise SystemExit(f"expected the new version to be promoted; `robomask retrain` ended with status {status}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled frames with scenes marked train and val")
    parser.add_argument("--simulated", type=Path, help="labelled frames without marks, to train on in both halves")
    parser.add_argument("--simulated-share", type=float, default=0.4, help="of the samples (%(default)s)")
    parser.add_argument("--pretrained", type=Path, help="weights that the first training starts its encoder from")
    parser.add_argument("--init", type=Path, help="or a run or bundle that it starts from, encoder and head")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything; an unfinished loop goes on")
    parser.add_argument("--epochs", type=int, default=40, help="of the first training (%(default)s)")
    parser.add_argument("--epochs-again", type=int, default=20, help="of the second (%(default)s)")
    parser.add_argument("--steps-per-epoch", type=int, default=50)
    parser.add_argument("--precisions", default="fp32,fp16,int8")
    parser.add_argument("--promote-if", default="frames=200,min_iou=0.7,max_latency_ratio=1.5")
    parser.add_argument("--tolerance", type=float, default=0.002, help="of the gate, mean IoU")
    parser.add_argument("--fps", type=float, default=5.0, help="frames that the camera sends in a second")
    parser.add_argument("--port", type=int, default=8768)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="further options of `robomask train`, after --")
    return parser


def _shares(files: int, chosen: argparse.Namespace) -> list[str]:
    """What share of the samples each data set has: the labelled files alike, then the simulated one."""
    if not chosen.simulated:
        return []
    real = (1 - chosen.simulated_share) / files
    return ["--data.shares", *[f"{real:g}"] * files, f"{chosen.simulated_share:g}"]


def halves(frames: FrameSet, first: Path, second: Path, seed: int) -> None:
    """Write two data sets: half of the training scenes and all held-out ones, and the other training scenes."""
    marks = set(frames.split.tolist())
    if not {"train", "val"} <= marks:
        raise SystemExit(f"expected frames marked train and val, found {sorted(marks)}")
    scenes = np.unique(frames.scene[frames.split == "train"])
    order = np.random.default_rng(seed).permutation(len(scenes))
    in_second = np.isin(frames.scene, scenes[order[len(scenes) // 2 :]])
    for file, chosen in ((first, ~in_second), (second, in_second)):
        part = frames.take(chosen)
        np.savez(file, frames=part.frames, masks=part.masks, scene=part.scene, split=part.split)


def halves_of(first: Path, second: Path) -> str:
    """How many frames and scenes each half has."""
    one, other = read_frames(first), read_frames(second)
    train, val = one.take(one.split == "train"), one.take(one.split == "val")
    counts = [f"{len(part)} frames of {len(set(part.scene.tolist()))} scenes" for part in (train, other, val)]
    return f"first half: {counts[0]}; second half: {counts[1]}; held out: {counts[2]}"


class Steps:
    """Runs `robomask` commands one after the other, and keeps what each took and printed; finished ones not again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.done: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}

    def run(self, step: str, *command: str, final: Collection[int] = (0,)) -> int:
        """Run a command; what it prints is shown, and the end of it kept.

        Args:
            step: Its name.
            command: Arguments of `robomask`.
            final: Exit statuses with which it is finished. With another one the loop ends here, and when it is started
                again, this step is too.
        """
        if step in self.done and self.done[step]["status"] in final:
            return int(self.done[step]["status"])
        print(f"\n$ robomask {' '.join(command)}", flush=True)
        started = time.perf_counter()
        lines: list[str] = []
        with subprocess.Popen(  # noqa: S603 - this repository's own
            [sys.executable, "-m", "robomask", *command], stdout=subprocess.PIPE, text=True
        ) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode not in final:
            expected = " or ".join(map(str, sorted(final)))
            raise SystemExit(f"{step}: expected status {expected}, got {process.returncode}; the same command goes on")
        self.note(step, time.perf_counter() - started, "".join(lines[-40:]), process.returncode)
        return process.returncode

    def note(self, step: str, seconds: float, said: str, status: int = 0) -> None:
        """Keep a step."""
        self.done[step] = {"seconds": seconds, "said": said, "status": status}
        self._file.write_text(json.dumps(self.done, indent=2) + "\n")


class Camera:
    """Sends frames to a service at a fixed rate, one after the other, in a thread, as long as it lasts.

    A frame that is due while the answer to the last is not there yet is sent when that is; none is sent twice.

    Attributes:
        took_ms: How long each answer took.
        versions: How many answers each version gave.
        failed: How many frames had none.
    """

    def __init__(self, url: str, frames: FrameSet, fps: float) -> None:
        self._url = url
        self._frames = frames.frames
        self._period_s = 1 / fps
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.took_ms: list[float] = []
        self.versions: dict[int, int] = {}
        self.failed = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        due_s = time.perf_counter()
        with Client(self._url) as client:
            for frame in itertools.cycle(self._frames):
                due_s = max(due_s + self._period_s, time.perf_counter())
                if self._over.wait(due_s - time.perf_counter()):
                    return
                self.send(client, frame)

    def send(self, client: Client, frame: NDArray[np.uint8]) -> None:
        """Send one frame uint8 [64,64,3], and note what became of it."""
        started = time.perf_counter()
        try:
            answer = client.segment(frame, stream_id="camera")
        except ClientError:
            self.failed += 1
            return
        self.took_ms.append((time.perf_counter() - started) * 1000)
        self.versions[answer.model.version] = self.versions.get(answer.model.version, 0) + 1

    def __str__(self) -> str:
        by_version = ", ".join(f"{count} by version {version}" for version, count in sorted(self.versions.items()))
        median = f"{statistics.median(self.took_ms):.0f} ms" if self.took_ms else "none"
        sent = len(self.took_ms) + self.failed
        return f"{sent} frames sent, {by_version or 'none answered'}, {self.failed} failed; median {median}"


def table(steps: Steps, chain: Path, camera: Camera, serving: int, halves: str) -> str:
    """The steps as Markdown: step, time, figure."""
    record = json.loads(chain.read_text()) if chain.is_file() else {"steps": {}, "outcome": None, "reason": None}
    inner = record["steps"]
    rows = [
        ("train on the first half", _took(steps, "train on the first half"), _last(steps, "train on the first half")),
        ("export as version 1", _took(steps, "export as version 1"), ""),
        ("evaluate version 1", _took(steps, "evaluate version 1"), _iou(steps, "evaluate version 1")),
        ("service ready", _took(steps, "service ready"), "version 1"),
        ("the other half arrives: `robomask retrain`", _took(steps, "retrain"), str(record["outcome"])),
        *((f"- {name}", step["seconds"], _figures(step["figures"])) for name, step in inner.items()),
        ("evaluate the service", _took(steps, "evaluate the service"), _iou(steps, "evaluate the service")),
    ]
    lines = [halves, "", "| step | seconds | figure |", "|---|---|---|"]
    lines += [f"| {name} | {seconds:.1f} | {figure} |" for name, seconds, figure in rows]
    return "\n".join([*lines, "", f"Serving at the end: version {serving}. Camera meanwhile: {camera}."])


def _took(steps: Steps, step: str) -> float:
    return float(steps.done[step]["seconds"])


def _last(steps: Steps, step: str) -> str:
    said: Sequence[str] = steps.done[step]["said"].strip().splitlines()
    return said[-1].partition(": ")[2] if said else ""


def _iou(steps: Steps, step: str) -> str:
    said = steps.done[step]["said"]
    iou = json.loads(said[said.index("{") :])["iou"]
    return f"mean IoU {iou['mean']:.4f} on {iou['n']} held-out frames"


def _figures(figures: dict[str, Any]) -> str:
    compared = figures.get("comparison")
    if compared:
        before, after = compared["iou_before"], compared["iou"]
        return f"version {figures['version']}: {before:.4f} -> {after:.4f} on the same {compared['n']} frames"
    return ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )


def _version(url: str) -> int:
    with Client(url) as client:
        return client.segment(np.zeros((64, 64, 3), np.uint8)).model.version


if __name__ == "__main__":
    main()
