"""The service on a real GPU: `pytest -m gpu` on a machine that has one and robomask[gpu] installed."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from service_kit import golden_frames, png, serving

from service.contract import Precision, open_bundle, versions
from service.engine import Provider, Wanted, open_engine, self_test
from service.engine.gpu_options import GpuOptions
from service.errors import ProviderMissing

MODELS = Path(__file__).parents[3] / "models"
BUNDLE = MODELS / "robot-arm" / str(versions(MODELS, "robot-arm")[-1])


def why_not() -> str | None:
    """Why the tests of this file cannot run here; None if they can."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this ONNX Runtime has no CUDA provider: install robomask[gpu]"
    try:
        open_engine(open_bundle(BUNDLE), Wanted("cuda", "fp32", max_batch=1, gpu=GpuOptions(graphs=False)))
    except ProviderMissing as missing:
        return str(missing)
    return None


WHY_NOT = why_not()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(WHY_NOT is not None, reason=f"no GPU: {WHY_NOT}")]


def offered(provider: Provider) -> list[tuple[Provider, Precision]]:
    return [(provider, precision) for precision in open_bundle(BUNDLE).manifest.precisions if precision != "int8"]


@pytest.mark.parametrize(("provider", "precision"), offered("cuda"))
@pytest.mark.parametrize("graphs", [False, True])
def test_the_golden_frames_come_out_right(provider: Provider, precision: Precision, graphs: bool) -> None:
    bundle = open_bundle(BUNDLE)
    engine = open_engine(bundle, Wanted(provider, precision, max_batch=8, gpu=GpuOptions(graphs=graphs)))
    assert (engine.provider, engine.precision) == (provider, precision)
    assert self_test(engine, bundle.golden()) <= bundle.golden().allowed(precision)


def test_graphs_are_recorded_without_complaint(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        open_engine(open_bundle(BUNDLE), Wanted("cuda", max_batch=8))
    assert "no CUDA graphs" not in caplog.text


def test_every_batch_size_gives_what_the_cpu_gives() -> None:
    bundle = open_bundle(BUNDLE)
    gpu, cpu = (open_engine(bundle, Wanted(provider, "fp32", max_batch=8)) for provider in ("cuda", "cpu"))
    frames = np.random.default_rng(1).integers(0, 256, (11, 64, 64, 3), dtype=np.uint8)
    for count in (1, 2, 3, 5, 8, 11):
        on_gpu, on_cpu = gpu.run(frames[:count], latents=True), cpu.run(frames[:count], latents=True)
        assert on_gpu.latents is not None
        assert on_cpu.latents is not None
        np.testing.assert_allclose(on_gpu.probability, on_cpu.probability, atol=bundle.golden().tolerance)
        np.testing.assert_allclose(on_gpu.latents, on_cpu.latents, atol=0.02 * float(on_cpu.latents.max()))


def test_a_memory_limit_is_enough_or_named() -> None:
    bundle = open_bundle(BUNDLE)
    engine = open_engine(bundle, Wanted("cuda", max_batch=4, gpu=GpuOptions(mem_limit_bytes=2 << 30)))
    assert self_test(engine, bundle.golden()) <= bundle.golden().allowed(engine.precision)


def test_the_service_answers_from_the_gpu() -> None:
    with serving(MODELS, provider="cuda", max_batch=8) as running:
        assert running.segment(png(golden_frames()[0])).status_code == 200
        serving_now = [v for v in running.client.get("/models").json()["versions"] if v["state"] == "serving"]
    assert serving_now[0]["provider"] == "cuda"


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is None, reason="no TensorRT: pip install tensorrt")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("provider", "precision"), offered("tensorrt"))
def test_tensorrt_answers_and_its_engine_is_kept(provider: Provider, precision: Precision, tmp_path: Path) -> None:
    bundle = open_bundle(BUNDLE)
    wanted = Wanted(provider, precision, max_batch=4, gpu=GpuOptions(engine_cache=tmp_path))
    engine = open_engine(bundle, wanted)
    assert engine.provider == "tensorrt"
    assert self_test(engine, bundle.golden()) <= bundle.golden().allowed(precision)
    assert list(tmp_path.glob("*.engine"))
