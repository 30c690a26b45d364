"""The gate: a new model beside the one in service, on frames that neither has learned from."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from service_kit import serving

from export import ancestry
from export.commands.export import main
from export.evaluate import EvaluationError, evaluate, service_masks
from export.learned import digests, learned_by, unseen
from export.predecessor import Predecessor, find_predecessor
from export.sources import held_out_frames, read_source
from export.succession import Gate, common_ground, compare_masks, sentence
from export.to_onnx import ExportError
from service.contract import Ancestor, Lineage, open_bundle
from training.data.frames import FrameSet
from training.data.readers import DatasetError, read_frames
from training.run import read_run

SOME = Ancestor(kind="bundle", name="toy", version=4, sha256="0" * 64)


def sure_run(toy_run: Path, folder: Path, bias: float) -> Path:
    """A run whose network says robot everywhere, or nowhere."""
    run = shutil.copytree(toy_run, folder)
    weights = load_file(run / "model.safetensors")
    last = [name for name in weights if name.startswith("head.decoder.") and name.endswith(".bias")][-1]
    weights[last].fill_(bias)
    save_file(weights, run / "model.safetensors")
    return run


@pytest.fixture(scope="module")
def everywhere(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sure_run(toy_run, tmp_path_factory.mktemp("everywhere") / "run", 1000)


@pytest.fixture(scope="module")
def nowhere(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sure_run(toy_run, tmp_path_factory.mktemp("nowhere") / "run", -1000)


@pytest.fixture
def before(models: Path) -> Predecessor:
    """What is in service there."""
    found = find_predecessor(str(models), "robot-arm")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def models(everywhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose version 1 says robot everywhere."""
    models = tmp_path_factory.mktemp("models")
    assert main([str(everywhere), "--models", str(models), "--precisions", "fp32", "--gate", str(models)]) == 0
    return models


def test_the_first_version_has_nothing_to_be_held_against(models: Path) -> None:
    assert open_bundle(models / "robot-arm/1").manifest.comparison is None


def test_a_worse_model_is_refused_with_both_figures_and_their_number(
    models: Path, nowhere: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(nowhere), "--models", str(models), "--precisions", "fp32", "--gate", str(models)]) == 3
    said = capsys.readouterr().err
    held_out = toys.masks[np.isin(toys.scene, ["toy4", "toy5"])]
    assert f"0.0000 against {held_out.mean((1, 2)).mean():.4f} of robot-arm version 1" in said
    assert "on the same 8 frames of toys.npz held out" in said
    assert "worse on 8" in said
    assert not (models / "robot-arm/2").exists()


def test_a_model_that_is_no_worse_passes_and_its_bundle_tells_how_it_compared(
    models: Path, everywhere: Path, tmp_path: Path
) -> None:
    arguments = ["--models", str(tmp_path), "--precisions", "fp32", "--gate", str(models / "robot-arm/1")]
    assert main([str(everywhere), *arguments]) == 0
    bundle = open_bundle(tmp_path / "robot-arm/1")
    found = bundle.manifest.comparison
    assert found is not None
    assert (found.n, found.left_out, found.other_data_known, found.better, found.worse) == (8, 0, True, 0, 0)
    assert found.iou == found.iou_before
    assert found.against.sha256 == open_bundle(models / "robot-arm/1").sha256
    assert "Against the version before" in bundle.read("card.md").decode()


def test_frames_that_a_model_has_learned_from_are_left_out_and_counted(
    before: Predecessor, nowhere: Path, toys: FrameSet, tmp_path: Path
) -> None:
    source, _ = read_source(nowhere, "")
    ground = common_ground(Gate(before, data=toys, data_path=tmp_path / "unmarked.npz"), source)
    assert (set(ground.frames.scene.tolist()), ground.left_out) == ({"toy4", "toy5"}, 16)
    assert ground.data_known
    trained_on = toys.take(np.isin(toys.scene, ["toy0", "toy1"]))
    with pytest.raises(ExportError, match=r"all 8 of trained-on\.npz are of scenes"):
        common_ground(Gate(before, data=trained_on, data_path=tmp_path / "trained-on.npz"), source)


def test_all_that_a_model_came_from_counts_among_what_it_has_learned(
    toy_run: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    def started_from(start: Path, folder: Path, how: str = "init") -> Path:
        run = shutil.copytree(toy_run, folder)
        record = json.loads((run / "run.json").read_text())
        record["config"]["model"][how] = str(start)
        (run / "run.json").write_text(json.dumps(record))
        return run

    first, second = (shutil.copytree(toy_bundle, tmp_path / f"toy/{version}") for version in (1, 2))
    manifest = json.loads((second / "manifest.json").read_text())
    sha256 = hashlib.sha256((first / "manifest.json").read_bytes()).hexdigest()
    manifest["lineage"]["parent"] = {"kind": "bundle", "name": "toy", "version": 1, "sha256": sha256}
    (second / "manifest.json").write_text(json.dumps(manifest))
    run = started_from(started_from(second, tmp_path / "run"), tmp_path / "next")
    source, _ = read_source(run, "")
    assert [bool(lineage.parent) for lineage in source.ancestry.lineages] == [False, True, False]
    assert len(ancestry.of_bundle(second, Lineage.model_validate(manifest["lineage"])).lineages) == 1
    encoder = started_from(second, tmp_path / "encoder", "pretrained")
    assert len(read_source(encoder, "")[0].ancestry.lineages) == 2
    itself = started_from(tmp_path / "itself", tmp_path / "itself")
    assert len(read_source(itself, "")[0].ancestry.lineages) == 1
    shutil.rmtree(first)
    source, _ = read_source(run, "")
    assert len(source.ancestry.lineages) == 2
    assert not ancestry.of_bundle(second, Lineage.model_validate(manifest["lineage"])).whole


def test_what_the_model_in_service_had_started_from_is_known_to_it(
    before: Predecessor, nowhere: Path, toys: FrameSet, tmp_path: Path
) -> None:
    source, _ = read_source(nowhere, "")
    assert before.lineage is not None
    heir = before._replace(lineage=None, ancestry=ancestry.Ancestry((before.lineage,)))
    gate = Gate(heir, data=toys, data_path=tmp_path / "toys.npz")
    ground = common_ground(gate, source)
    assert set(ground.frames.scene.tolist()) == {"toy4", "toy5"}
    assert not ground.data_known


def test_scenes_that_have_changed_sides_are_nothing_to_compare_on(toy_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(toy_run, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    record["split"]["val"] = ["toy0", "toy1"]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match="other scenes held out"):
        held_out_frames(read_run(run))


def test_what_a_run_noted_of_its_start_counts_when_the_start_is_gone(
    before: Predecessor, toy_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(toy_run, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    record["config"]["model"]["init"] = "runs/start"
    record["known_scenes"] = ["toy4"]
    (run / "run.json").write_text(json.dumps(record))
    ground = common_ground(Gate(before), read_source(run, "")[0])
    assert (set(ground.frames.scene.tolist()), ground.left_out, ground.data_known) == ({"toy5"}, 4, False)


def test_relative_paths_of_a_run_count_from_where_it_was_begun(toy_run: Path, tmp_path: Path) -> None:
    for name, init in (("start", None), ("next", "runs/start")):
        run = shutil.copytree(toy_run, tmp_path / "runs" / name)
        record = json.loads((run / "run.json").read_text())
        record["config"]["out"] = f"runs/{name}"
        record["config"]["model"]["init"] = init
        if name == "start":
            record["split"] = {"train": record["split"]["val"], "val": []}
        (run / "run.json").write_text(json.dumps(record))
    source, _ = read_source(tmp_path / "runs/next", "")
    assert source.ancestry.whole
    assert len(source.ancestry.lineages) == 1


def test_a_service_is_held_against_as_a_bundle_is(models: Path, toys: FrameSet) -> None:
    with serving(models, vet_s=0) as running:
        found = find_predecessor(str(running.client.base_url), "whatever")
        assert found is not None
        assert found.identity.sha256 == open_bundle(models / "robot-arm/1").sha256
        assert found.masks(toys.frames[:2]).all()
        stranger = "0" * 64
        with pytest.raises(EvaluationError, match=f"expected the model {stranger} to answer"):
            service_masks(str(running.client.base_url), toys.frames[:1], stranger)


def test_the_score_of_a_service_says_which_version_has_answered(models: Path, toys: FrameSet) -> None:
    with serving(models, vet_s=0) as running:
        found = evaluate(str(running.client.base_url), toys.take(np.arange(len(toys)) < 3))
    assert found.answered == {"robot-arm 1": 3}


def test_a_place_where_nothing_can_be_in_service_is_refused(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(nowhere), "--models", str(tmp_path), "--gate", str(tmp_path / "absent")]) == 1
    assert "expected a bundle (with manifest.json), a model repository or an http address" in capsys.readouterr().err


def test_a_split_is_made_again_from_a_bundles_lineage(models: Path, toy_file: Path) -> None:
    found = find_predecessor(str(models), "robot-arm")
    assert found is not None
    frames = read_frames(toy_file)
    learned = learned_by(found.lineage, {toy_file: frames})
    assert learned.known
    assert learned.digests == set(digests(frames.frames[frames.split == "train"]))
    assert learned_by(found.lineage, {}) == (frozenset(), False)


def test_a_scene_goes_with_any_of_its_frames(toys: FrameSet, models: Path, toy_file: Path) -> None:
    found = find_predecessor(str(models), "robot-arm")
    assert found is not None
    learned = learned_by(found.lineage, {toy_file: read_frames(toy_file)})
    merged = FrameSet(toys.frames, toys.masks, np.where(toys.scene == "toy4", "toy0", toys.scene), toys.split)
    assert set(unseen(merged, [learned]).scene.tolist()) == {"toy5"}


def test_the_comparison_is_by_image() -> None:
    truth = np.zeros((2, 64, 64), np.uint8)
    truth[:, :32] = 1
    right, half = truth.astype(bool), truth.astype(bool)
    half[:, :16] = False
    found = compare_masks(
        np.stack([right[0], half[0]]), half, truth,
        against=SOME, data="d", left_out=0, data_known=False, precision="fp32", tolerance=0.0,
    )  # fmt: skip
    assert (found.iou, found.iou_before, found.better, found.worse) == (0.75, 0.5, 1, 0)
    assert found.standard_error == pytest.approx(0.25)
    assert "version 4" in sentence(found)
    assert "is not known" in sentence(found)
