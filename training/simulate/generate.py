"""Many clips: one process a core, shards written whole or not at all, runs that go on where they stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from training.simulate.clip import SIZE, VERSION, Clip, simulate_clip
from training.simulate.engine import mujoco
from training.simulate.errors import SimulationError
from training.simulate.meshes import Sawyer, load_sawyer
from training.simulate.render import Renderer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.simulate.config import SimulateConfig

SETTINGS = "simulation.json"
"""File in a folder of shards that says what made them."""

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Job:
    """What a process needs to know to make a clip."""

    seed: int
    index: int
    frames: int
    stride: int


class Studio:
    """One process's arm and renderer, made once for all its clips."""

    def __init__(self, supersample: int) -> None:
        mujoco.set_mju_user_warning(_keep_quiet)
        self.sawyer: Sawyer = load_sawyer()
        self.renderer = Renderer(SIZE * supersample)

    def make(self, job: Job) -> Clip:
        """Simulate a clip."""
        return simulate_clip(self.sawyer, self.renderer, **asdict(job))

    def close(self) -> None:
        """Free the renderer."""
        self.renderer.close()


class Cost(NamedTuple):
    """What a clip took: CPU seconds, and whether it was its process's first, in which shaders are compiled."""

    cpu_seconds: float
    first: bool


class Outcome(NamedTuple):
    """What a run wrote: all shards of the data set in order, and what each new clip in them cost."""

    shards: list[Path]
    costs: list[Cost]


def simulate(config: SimulateConfig) -> Outcome:
    """Write all shards of a data set that are not there yet.

    A shard is an `.npz` with `frames` uint8 [N,T,64,64,3], `masks` uint8 [N,T,64,64] in {0,1} and `scene` str [N].

    Raises:
        SimulationError: The simulator cannot run, or the folder holds shards of other settings.
    """
    folder = config.out
    if folder is None:
        raise SimulationError("expected a folder to write to, got none: --out FOLDER")
    claim(folder, config)
    shards = {folder / f"clips-{first:06d}.npz": first for first in range(0, config.clips, config.shard_clips)}
    wanted = {shard: range(i, min(i + config.shard_clips, config.clips)) for shard, i in shards.items()}
    missing = [shard for shard in shards if not is_whole(shard, len(wanted[shard]))]
    if not missing:
        return Outcome(list(shards), [])
    jobs = [Job(config.seed, i, config.frames, config.stride) for shard in missing for i in wanted[shard]]
    costs: list[Cost] = []
    with clips(jobs, config) as made, tqdm(total=len(jobs), unit="clip", desc="simulate") as bar:
        for shard in missing:
            done: list[Clip] = []
            for _ in wanted[shard]:
                clip, cost = next(made)
                done.append(clip)
                costs.append(cost)
                bar.update()
            write_shard(shard, done)
    return Outcome(list(shards), costs)


@contextmanager
def clips(jobs: list[Job], config: SimulateConfig) -> Iterator[Iterator[tuple[Clip, Cost]]]:
    """The clips of some jobs, in order, and their costs; made by as many processes as wanted."""
    load_sawyer()  # here first: a missing package or cache is reported once, before any process starts
    processes = min(config.processes or os.cpu_count() or 1, len(jobs))
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read by the processes' numpy; a core each is all they have
    try:
        context = multiprocessing.get_context("spawn")
        with context.Pool(processes, initializer=_leave_interrupts_to_the_parent) as pool:
            yield pool.imap(partial(_make, config.supersample), jobs)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def claim(folder: Path, config: SimulateConfig) -> None:
    """Make a folder this simulation's own.

    Raises:
        SimulationError: It holds shards that other settings or another version made.
    """
    settings = config.model_dump(include={"frames", "stride", "seed", "shard_clips", "supersample"})
    settings |= {"version": VERSION, "mujoco": mujoco.__version__, "arm": load_sawyer().folder.name}
    file = folder / SETTINGS
    if file.is_file():
        found = json.loads(file.read_text())
        if found != settings:
            raise SimulationError(
                f"{folder}: expected shards made with {settings}, found {found}: choose another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.npz")):
        raise SimulationError(f"{folder}: expected an empty folder or a simulation's, found other .npz files")
    file.write_text(json.dumps(settings, indent=1) + "\n")


def is_whole(shard: Path, count: int) -> bool:
    """Whether a shard is there and holds at least as many clips as wanted; the last of a shorter run may not."""
    if not shard.is_file():
        return False
    with np.load(shard, allow_pickle=False) as file:
        return len(file["scene"]) >= count


def write_shard(shard: Path, made: list[Clip]) -> None:
    """Write clips under a temporary name, then rename: a shard is there whole or not at all."""
    temporary = shard.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez_compressed(
            file,
            frames=np.stack([clip.frames for clip in made]),
            masks=np.stack([clip.masks for clip in made]),
            scene=np.array([clip.scene for clip in made]),
        )
    temporary.replace(shard)


@cache
def _studio(supersample: int) -> Studio:
    return Studio(supersample)


def _make(supersample: int, job: Job) -> tuple[Clip, Cost]:
    first = _studio.cache_info().currsize == 0
    studio = _studio(supersample)  # made once for each process: no part of what a clip costs
    start = time.process_time()
    clip = studio.make(job)
    return clip, Cost(time.process_time() - start, first)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _keep_quiet(_: str) -> None:
    """MuJoCo's warnings; unstable physics is seen in its counters, and the clip drawn anew."""
