"""A model is served only if it is what the contract says, answers as it did, and runs where it was told to."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from service_kit import golden_frames, publish_tiny, red_probability, tiny_onnx

from service.contract import BundleInvalid, Golden, open_bundle
from service.engine import Engine, Wanted, open_engine, self_test, warm_up
from service.errors import ModelFault, ProviderMissing, StartFailed
from service.versions.models import Models, Opener

OPENER = Opener(provider="cpu", precision=None, intra_op_threads=1, max_batch=None)
no_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="says what happens without a GPU build"
)


def engine_of(folder: Path, **changes: Any) -> Engine:
    return open_engine(open_bundle(folder), Wanted(**{"provider": "cpu"} | changes))


def test_probabilities_and_latents_are_those_of_the_model(tmp_path: Path) -> None:
    engine = engine_of(publish_tiny(tmp_path).folder)
    frames = golden_frames()
    plain, full = engine.run(frames, latents=False), engine.run(frames, latents=True)
    assert np.allclose(plain.probability, red_probability(frames), atol=1e-5)
    assert plain.latents is None
    assert full.latents is not None
    assert full.latents.shape == (3, 16, 16, 240)
    assert (engine.provider, engine.precision, engine.max_batch) == ("cpu", "fp32", 1)


def test_every_frame_is_judged_by_the_threshold_of_the_bundle(tmp_path: Path) -> None:
    bundle = publish_tiny(tmp_path, threshold=0.6)
    frames = golden_frames()
    for form in engine_of(bundle.folder).open_forms():
        prediction = form.run(frames, latents=False)
        assert prediction.threshold == 0.6
        for probability, verdict in zip(prediction.probability, prediction.verdicts, strict=True):
            robot = probability >= 0.6
            assert np.array_equal(verdict.robot, robot)
            assert verdict.area == robot.sum()
            sure = probability[robot].mean() if robot.any() else 1 - probability.max()
            assert verdict.confidence == pytest.approx(float(sure), abs=1e-6)


def wait_until_opened() -> None:
    """Wait for the thread that opens the form for one frame at a time."""
    for thread in threading.enumerate():
        if thread.name == "robomask-alone":
            thread.join(60)


def test_the_form_for_one_frame_at_a_time_opens_when_it_is_asked_for_and_says_the_same(tmp_path: Path) -> None:
    engine = engine_of(publish_tiny(tmp_path).folder, alone_threads=2)
    engine.alone()
    wait_until_opened()
    alone = engine.alone()
    assert alone is not None
    frames = golden_frames()[:1]
    both = [form.run(frames, latents=True) for form in (engine, alone)]
    np.testing.assert_allclose(both[1].probability, both[0].probability, atol=1e-6)
    assert alone.alone() is None


def test_without_more_threads_there_is_no_such_form(tmp_path: Path) -> None:
    engine = engine_of(publish_tiny(tmp_path).folder, alone_threads=1)
    assert engine.alone() is None


def test_a_bundle_that_has_gone_meanwhile_goes_on_without_such_a_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = publish_tiny(tmp_path)
    engine = engine_of(bundle.folder, alone_threads=2)
    shutil.rmtree(bundle.folder)
    engine.alone()
    wait_until_opened()
    assert engine.alone() is None
    assert "one frame at a time goes on with as many threads" in caplog.text
    assert engine.run(golden_frames(), latents=False).probability.shape == (3, 64, 64)


def test_the_self_test_tells_how_far_off_the_model_is(tmp_path: Path) -> None:
    engine = engine_of(publish_tiny(tmp_path).folder)
    frames = golden_frames()
    expected = red_probability(frames).astype(np.float32)
    assert self_test(engine, Golden(frames, expected, 1e-4)) < 1e-4
    with pytest.raises(BundleInvalid, match=r"within 0\.0001 of the golden ones, got a difference of 0\.1"):
        self_test(engine, Golden(frames, np.clip(expected + 0.1, 0, 1).astype(np.float32), 1e-4))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (tiny_onnx(latent_side=8), r"latents float32 \[N,16,16,240\].*got.*latents tensor\(float\) \['N', 8, 8, 240\]"),
        (tiny_onnx(batch=2), r"frames tensor\(uint8\) \[2, 64, 64, 3\]"),
        (b"this is no model", "expected an ONNX model"),
        (b"", "expected an ONNX model"),
        (tiny_onnx(bias=0.0), "does not answer as it did when it was exported"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused_for_its_reason(tmp_path: Path, model: bytes, words: str) -> None:
    folder = publish_tiny(tmp_path, precisions={"fp32": model}).folder
    with pytest.raises(BundleInvalid, match=words):
        OPENER.open(folder)


def test_an_answer_that_is_no_number_is_a_fault(tmp_path: Path) -> None:
    engine = engine_of(publish_tiny(tmp_path, precisions={"fp32": tiny_onnx(bias=float("nan"))}).folder)
    with pytest.raises(ModelFault, match="finite"):
        engine.run(golden_frames(), latents=False)
    with pytest.raises(BundleInvalid, match="finite"):
        self_test(engine, Golden(golden_frames(), red_probability(golden_frames()).astype(np.float32), 0.1))


def test_warming_up_runs_every_size(tmp_path: Path) -> None:
    assert warm_up(engine_of(publish_tiny(tmp_path).folder), [1, 4]) > 0


@no_gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_asking_for_a_gpu_that_is_not_there_fails_and_says_what_to_do(tmp_path: Path, provider: str) -> None:
    with pytest.raises(ProviderMissing, match=r"expected a GPU.*robomask\[gpu\].*--provider cpu"):
        engine_of(publish_tiny(tmp_path).folder, provider=provider)


@no_gpu
def test_auto_takes_the_cpu_where_there_is_no_gpu(tmp_path: Path) -> None:
    engine = engine_of(publish_tiny(tmp_path).folder, provider="auto")
    assert engine.provider == "cpu"
    assert "knows no GPU" in engine.reason


def test_the_newest_version_that_passes_its_test_serves_and_the_others_tell_why_not(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path)
    broken = publish_tiny(tmp_path)
    (broken.folder / "card.md").write_text("changed")
    models = Models(tmp_path, None, None, OPENER)
    assert models.load().manifest.version == 2
    states = {state.version: state for state in models.listing().versions}
    assert [states[version].state for version in (1, 2, 3)] == ["available", "serving", "refused"]
    assert "expected sha256" in str(states[3].reason)
    assert (states[2].provider, states[2].precision) == ("cpu", "fp32")
    assert states[2].engine_reason == "cpu: the settings name the CPU; fp32: the bundle has no int8 model"


def test_a_version_that_was_asked_for_is_the_only_one_that_is_tried(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    broken = publish_tiny(tmp_path)
    (broken.folder / "card.md").write_text("changed")
    with pytest.raises(StartFailed, match=r"version 2: .*expected sha256"):
        Models(tmp_path, "tiny", 2, OPENER).load()
    assert Models(tmp_path, "tiny", 1, OPENER).load().manifest.version == 1


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        (None, None, "expected one model in .*, found other, tiny; say with --model"),
        ("third", None, "expected a version of 'third' in .*, found none; models there: other, tiny"),
        ("tiny", 7, "expected version 7 of 'tiny' in .*, found 1;"),
        ("../tiny", None, "found none"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path, name: str | None, version: int | None, words: str
) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path, name="other")
    with pytest.raises(StartFailed, match=words):
        Models(tmp_path, name, version, OPENER)


def test_an_empty_or_missing_repository_says_what_was_expected_where(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"<model>/<version>/manifest.json in .*found no model; publish one"):
        Models(tmp_path, None, None, OPENER)
    with pytest.raises(StartFailed, match="found no such folder"):
        Models(tmp_path / "nowhere", None, None, OPENER)
