"""Finetuning by several processes, as torchrun starts them on one node or many."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from training.commands.train import main
from training.config import AugmentConfig, MachineConfig, TrainConfig
from training.data.batches import train_loader
from training.data.frames import FrameSet
from training.history import read_history
from training.machine import settled
from training.run import HISTORY, load_segmenter, read_run

ROOT = Path(__file__).parents[2]


def arguments(folder: Path, toys: FrameSet, out: Path, *, batch: int) -> list[str]:
    np.savez(folder / "toys.npz", frames=toys.frames, masks=toys.masks, scene=toys.scene)
    return [
        *("--out", str(out), "--data.train", str(folder / "toys.npz"), "--data.split", "seeded"),
        *("--model.layers", "[1,1,1,1]", "--model.head", "linear", "--epochs", "2", "--steps-per-epoch", "2"),
        *("--optim.optimiser", "sgd", "--optim.lr", "0.01", "--optim.warmup-steps", "0", "--batch-size", str(batch)),
        *("--precision", "32-true", "--threads", "1", "--machine.accelerator", "cpu"),
    ]


def test_two_processes_learn_what_one_learns_from_batches_of_twice_the_size(tmp_path: Path, toys: FrameSet) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(arguments(tmp_path, toys, one, batch=4)) == 0
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *("--module", "robomask", "train", *arguments(tmp_path, toys, two, batch=2), "--machine.devices", "2"),
        ],
        capture_output=True, text=True, timeout=250, check=False, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held-out frames") == 1
    assert [row["step"] for row in read_history(two / HISTORY)] == ["2", "4"]
    torch.testing.assert_close(load_segmenter(two).state_dict(), load_segmenter(one).state_dict(), atol=1e-5, rtol=1e-4)


def test_processes_share_out_the_frames_of_every_step(toys: FrameSet) -> None:
    def batches(size: int, rank: int, world: int) -> list[torch.Tensor]:
        loader = train_loader(
            [toys], AugmentConfig(), seed=3, batch_size=size, steps_per_epoch=3, rank=rank, world=world
        )
        return [frames for frames, _ in loader]

    first, second, whole = batches(2, 0, 2), batches(2, 1, 2), batches(4, 0, 1)
    for own, other, both in zip(first, second, whole, strict=True):
        assert torch.equal(torch.stack([own, other], 1).flatten(0, 1), both)


def test_records_of_runs_that_knew_no_machine_are_read(tmp_path: Path) -> None:
    old = {"out": "run", "data": {"train": ["a.npz"]}, "precision": "32-true", "threads": 3}
    (tmp_path / "run.json").write_text(json.dumps({"config": old}))
    machine = read_run(tmp_path).config.machine
    assert (machine.precision, machine.threads, machine.nodes) == ("32-true", 3, 1)


def test_precision_and_threads_have_short_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "--precision" in shown
    assert "--machine.nodes" in shown
    assert TrainConfig.model_validate({"out": "run", "data": {"train": ["a"]}}).machine.devices == -1


def test_arithmetic_is_settled_by_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = MachineConfig(accelerator="cpu")
    for has, comes_to in (({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed"), ({}, "32-true")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda has=has: has)
        assert settled(on_cpu).precision == comes_to
        assert settled(on_cpu.model_copy(update={"precision": "bf16-mixed"})).precision == "bf16-mixed"
