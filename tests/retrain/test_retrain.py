"""The whole chain on the toy data: real training, real bundles, a real service."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from service_kit import Running, png, serving

from retrain.commands.retrain import main
from retrain.config import BOUNDS, RetrainConfig
from service.contract import open_bundle, versions
from service.versions.trial import Gate
from training.config import DataConfig
from training.data.frames import FrameSet
from training.run import read_run

TOKEN = "open sesame"  # noqa: S105 - of a service that lives as long as a test
SHORT = ("--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "2", "--precision", "32-true")


def arguments(out: Path, models: Path, data: Path, *more: str) -> list[str]:
    return [
        *("--out", str(out), "--models", str(models), "--data.train", str(data), "--precisions", "fp32"),
        *("--seed", "5", "--gate-tolerance", "1", *SHORT, *more),
    ]


@contextmanager
def traffic(running: Running, frame: np.ndarray) -> Iterator[None]:
    """Somebody sends frames as long as it lasts."""
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            running.segment(png(frame))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_new_labels_become_a_version_in_service_and_its_answers_lead_back_to_them(
    models: Path, toy_file: Path, toys: FrameSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOMASK_ADMIN_TOKEN", TOKEN)
    out = tmp_path / "run"
    with serving(models, admin_token=TOKEN, vet_s=0) as running:
        url = ("--url", str(running.client.base_url), "--every-s", "0.05")
        chain = arguments(out, models, toy_file, *url, "--promote-if", "frames=3")
        with traffic(running, toys.frames[0]):
            assert main(chain) == 0
        answer = running.segment(png(toys.frames[0]))
        assert main(chain) == 0  # nothing is left to do
    assert versions(models, "toy") == [1, 2]

    # From an answer back to data, code and seed.
    sha256 = answer.headers["X-Model-Sha256"]
    bundle = next(b for v in versions(models, "toy") if (b := open_bundle(models / f"toy/{v}")).sha256 == sha256)
    lineage = bundle.manifest.lineage
    assert [source.sha256 for source in lineage.data] == [toys.sha256()]
    assert lineage.seed == 5
    assert lineage.run is not None
    assert lineage.run.sha256 == hashlib.sha256((out / "run.json").read_bytes()).hexdigest()
    run = read_run(out)
    assert lineage.code_revision == run.record["code_revision"]
    assert lineage.parent is not None
    assert lineage.parent.model_dump() == run.record["parent"]
    assert lineage.parent.sha256 == open_bundle(models / "toy/1").sha256
    card = bundle.read("card.md").decode()
    assert lineage.parent.sha256 in card
    assert str(tmp_path) not in card + bundle.manifest.model_dump_json()

    record = json.loads((out / "retrain.json").read_text())
    assert record["outcome"] == "promoted"
    assert list(record["steps"]) == ["train", "publish", "roll-out"]
    assert all(step["done"] and step["seconds"] > 0 and step["attempts"] == 1 for step in record["steps"].values())
    assert record["steps"]["roll-out"]["figures"]["compared"] >= 1
    assert record["steps"]["publish"]["figures"]["comparison"]["n"] == 8


def test_a_published_version_is_not_published_twice_and_a_later_attempt_goes_on(
    models: Path, toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(arguments(out, models, toy_file)) == 0
    record = json.loads((out / "retrain.json").read_text())
    # Killed after publishing, before it could be noted.
    (out / "retrain.json").write_text(json.dumps({**record, "steps": {}, "outcome": None}))
    assert main(arguments(out, models, toy_file)) == 0
    assert versions(models, "toy") == [1, 2]

    with serving(models, admin_token=TOKEN, vet_s=0, version=1) as running:
        url = ("--url", str(running.client.base_url), "--every-s", "0.05")
        capsys.readouterr()
        assert main(arguments(out, models, toy_file, *url, "--rollout", "activate")) == 1
        assert "expected ROBOMASK_ADMIN_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("ROBOMASK_ADMIN_TOKEN", "another")
        assert main(arguments(out, models, toy_file, *url, "--rollout", "activate")) == 1
        assert "expected the admin token" in capsys.readouterr().err
        monkeypatch.setenv("ROBOMASK_ADMIN_TOKEN", TOKEN)
        assert main(arguments(out, models, toy_file, *url, "--timeout-s", "0.01", "--promote-if", "frames=3")) == 5
        assert "it is on-trial" in capsys.readouterr().out
        running.client.post(
            "/models/shadow", json={"version": 2, "share": 0}, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert main(arguments(out, models, toy_file, *url)) == 4  # somebody has ended the trial
    with serving(models, vet_s=0) as running:  # which starts with the newest version
        url = ("--url", str(running.client.base_url))
        assert main(arguments(out, models, toy_file, *url, "--rollout", "watch")) == 0
    assert versions(models, "toy") == [1, 2]

    assert main(arguments(out, models, toy_file, "--batch-size", "3")) == 1
    assert "found others in batch_size" in capsys.readouterr().err


def test_a_worse_model_is_not_published_and_stays_so(
    models: Path, toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from export.evaluate import bundle_masks
    from training.data.readers import read_frames

    frames = read_frames(toy_file)
    masks = bundle_masks(models / "toy/1", frames.frames).astype(np.uint8)
    data = tmp_path / "as-version-1-sees-them.npz"
    masks[:, 0, 0] = 1
    np.savez(data, frames=frames.frames, masks=masks, scene=frames.scene, split=frames.split)
    # Labels that version 1 agrees with, and a step so long that what it has learned is lost.
    chain = arguments(tmp_path / "run", models, data, "--optim.lr", "10", "--optim.warmup-steps", "0")
    chain[chain.index("--gate-tolerance") + 1] = "0"
    for _ in range(2):
        assert main(chain) == 3
        assert "worse" in capsys.readouterr().out
    assert versions(models, "toy") == [1]


def test_a_service_of_another_repository_is_refused_before_anything_is_trained(
    models: Path, toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(models, vet_s=0) as running:
        url = ("--url", str(running.client.base_url))
        assert main(arguments(tmp_path / "run", tmp_path / "elsewhere", toy_file, *url)) == 1
    assert "name with --models the repository that it serves" in capsys.readouterr().err
    assert not (tmp_path / "run/checkpoints").exists()


def test_an_empty_repository_is_no_start(toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    assert main(arguments(tmp_path / "run", tmp_path / "models", toy_file)) == 1
    assert "publish one first" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--gate-data", "nowhere.npz"), "nowhere.npz"),
        (("--calibration", "nowhere.npz"), "nowhere.npz"),
    ],
)
def test_what_only_later_steps_need_is_looked_at_before_anything_is_trained(
    models: Path,
    toy_file: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = arguments(tmp_path / "run", models, toy_file, *more)
    assert main(out) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_bound_that_no_service_knows_is_named_at_once(tmp_path: Path) -> None:
    assert set(BOUNDS) == set(Gate.model_fields)
    with pytest.raises(ValueError, match="got frame"):
        RetrainConfig(
            out=tmp_path, data=DataConfig(train=(tmp_path / "toys.npz",), split="seeded"), promote_if="frame=500"
        )
