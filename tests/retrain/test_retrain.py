"""The whole chain on the toy data: real training, real bundles, a real service."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_kit import Running, png, serving

from retrain.commands.retrain import main
from retrain.config import HowTo, RetrainConfig
from retrain.gate import Gate
from retrain.in_service import published_of
from service.contract import BundleInvalid, open_bundle, versions
from service.versions import trial
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
        while not over.wait(0.02):  # not as fast as it goes: what is trained beside it needs the interpreter as well
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


def worse_chain(models: Path, toy_file: Path, tmp_path: Path) -> list[str]:
    """A chain whose model is worse: labels that version 1 agrees with, and a step so long that all is forgotten."""
    from export.evaluate import bundle_masks
    from training.data.readers import read_frames

    frames = read_frames(toy_file)
    masks = bundle_masks(models / "toy/1", frames.frames).astype(np.uint8)
    data = tmp_path / "as-version-1-sees-them.npz"
    masks[:, 0, 0] = 1
    np.savez(data, frames=frames.frames, masks=masks, scene=frames.scene, split=frames.split)
    chain = arguments(tmp_path / "run", models, data, "--optim.lr", "10", "--optim.warmup-steps", "0")
    chain[chain.index("--gate-tolerance") + 1] = "0"
    return chain


def test_a_worse_model_is_not_published_and_stays_so_until_the_gate_is_told_otherwise(
    models: Path, toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = worse_chain(models, toy_file, tmp_path)
    for _ in range(2):
        assert main(chain) == 3
        assert "worse" in capsys.readouterr().out
    assert versions(models, "toy") == [1]
    file = tmp_path / "run/retrain.json"
    assert [step["attempts"] for step in json.loads(file.read_text())["steps"].values()] == [1, 1]
    record = json.loads(file.read_text())
    record.pop("gate", None)  # of an older version, which does not say by what it was judged
    file.write_text(json.dumps(record))
    other = str(shutil.copy(chain[chain.index("--data.train") + 1], tmp_path / "others.npz"))
    assert main([*chain, "--gate-data", other]) == 3
    record = json.loads(file.read_text())
    assert record["steps"]["publish"]["figures"]["data"] == "others.npz"
    assert record["gate"]["gate_data"] == other

    chain[chain.index("--gate-tolerance") + 1] = "1"
    assert main(chain) == 0
    record = json.loads(file.read_text())
    assert (record["outcome"], record["steps"]["train"]["attempts"]) == ("published", 1)
    assert versions(models, "toy") == [1, 2]


def test_a_rejected_version_is_tried_again_only_by_other_bounds(
    models: Path, toy_file: Path, toys: FrameSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOMASK_ADMIN_TOKEN", TOKEN)
    out = tmp_path / "run"

    def attempts() -> int:
        return int(json.loads((out / "retrain.json").read_text())["steps"]["roll-out"]["attempts"])

    with serving(models, admin_token=TOKEN, vet_s=0) as running, traffic(running, toys.frames[0]):
        chain = arguments(out, models, toy_file, "--url", str(running.client.base_url), "--every-s", "0.05")
        for _ in range(2):
            assert main([*chain, "--promote-if", "frames=3,max_latency_ratio=0.001"]) == 4
            assert attempts() == 1
        assert main([*chain, "--promote-if", "frames=3,max_latency_ratio=0.002"]) == 4
        assert attempts() == 2
        assert main([*chain, "--promote-if", "frames=3"]) == 0
    assert json.loads((out / "retrain.json").read_text())["outcome"] == "promoted"
    assert versions(models, "toy") == [1, 2]


def test_a_chain_goes_on_that_was_begun_before_a_setting_was_there(
    models: Path, toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(arguments(out, models, toy_file)) == 0
    record = json.loads((out / "retrain.json").read_text())
    del record["settings"]["augment"]["blank"]
    record = {name: value for name, value in record.items() if name not in {"gate", "trial"}}
    (out / "retrain.json").write_text(json.dumps(record))
    assert main(arguments(out, models, toy_file, "--augment.blank", "0.5")) == 1
    assert "found others in augment:" in capsys.readouterr().err
    assert main(arguments(out, models, toy_file)) == 0

    record["settings"]["augment"]["of a later version"] = 1
    (out / "retrain.json").write_text(json.dumps(record))
    assert main(arguments(out, models, toy_file)) == 1
    assert "expected settings that this version knows" in capsys.readouterr().err


def test_versions_that_cannot_be_read_stand_in_nobodys_way(models: Path, toy_file: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "toy/1", models / "toy/2")  # its manifest says that it is version 1
    for version, manifest in ((3, "{}"), (4, "no json"), (5, None)):
        (models / f"toy/{version}").mkdir()
        if manifest is not None:
            (models / f"toy/{version}/manifest.json").write_text(manifest)
    assert main(arguments(tmp_path / "run", models, toy_file)) == 0
    assert json.loads((tmp_path / "run/retrain.json").read_text())["before"]["version"] == 1
    assert versions(models, "toy") == [1, 2, 3, 4, 5, 6]

    shutil.copytree(models / "toy/6", models / "toy/7")
    run = hashlib.sha256((tmp_path / "run/run.json").read_bytes()).hexdigest()
    published = published_of(models, "toy", run)
    assert published is not None
    assert published.manifest.version == 6
    (models / "toy/6/card.md").write_text("something else")
    with pytest.raises(BundleInvalid, match=r"card\.md"):
        published_of(models, "toy", run)


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


def configured(folder: Path, **settings: Any) -> RetrainConfig:
    return RetrainConfig(out=folder, data=DataConfig(train=(folder / "toys.npz",), split="seeded"), **settings)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("frame=500", "frame: Extra inputs"),
        ("frames", "frames: Input should be a valid integer"),
        ("frames=abc", "frames: Input should be a valid integer"),
        ("frames=-5,min_iou=7", "frames: Input should be greater.*min_iou: Input should be less"),
        ("max_latency_ratio=inf", "max_latency_ratio: Input should be a finite number"),
        ("", "no bound at all"),
        (" , ", "no bound at all"),
    ],
)
def test_a_gate_that_a_service_would_refuse_is_refused_at_once(tmp_path: Path, gate: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"expected promote_if of frames=N.*{words}"):
        configured(tmp_path, promote_if=gate)
    assert configured(tmp_path, promote_if="frames=1000, min_iou=0.8,max_latency_ratio=1.2").promote_if


def test_bounds_are_those_of_a_service() -> None:
    ours, its = Gate.model_json_schema(), trial.Gate.model_json_schema()
    assert ours["properties"] == its["properties"]


@pytest.mark.parametrize(
    ("rollout", "told", "share"),
    [("canary", None, 0.1), ("shadow", None, 1.0), ("activate", None, 1.0), ("canary", 1.0, 1.0)],
)
def test_an_untried_version_answers_a_tenth_of_the_streams_unless_told_otherwise(
    tmp_path: Path, rollout: HowTo, told: float | None, share: float
) -> None:
    config = configured(tmp_path, rollout=rollout, share=told)
    assert config.streams() == config.trial()["share"] == share
