"""What runs on a GPU, run on the CPU: fixed batch sizes in memory that is bound once."""

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from service_kit import publish_tiny, red_probability

from service.contract import open_bundle
from service.engine.buckets import Buckets, bucket_sizes
from service.engine.gpu import cuda_options, require_provider, tensorrt_options
from service.engine.gpu_options import GpuOptions
from service.engine.running import Engine
from service.engine.sessions import CPU, open_session
from service.errors import ProviderMissing


@pytest.fixture
def session(tmp_path: Path) -> ort.InferenceSession:
    return open_session(open_bundle(publish_tiny(tmp_path).folder), "fp32", [CPU], 1)


def some_frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (32, [1, 2, 4, 8, 16, 32])])
def test_sizes_are_powers_of_two_and_the_largest(largest: int, sizes: list[int]) -> None:
    assert bucket_sizes(largest) == sizes


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_any_number_of_frames_gets_the_answer_of_a_plain_run(session: ort.InferenceSession, count: int) -> None:
    buckets = Buckets(session, "cpu", 4, graphs=False)
    frames = some_frames(count)
    probability, latents = buckets(frames, latents=True)
    plain = session.run(["probability", "latents"], {"frames": frames})
    np.testing.assert_allclose(probability, plain[0], atol=1e-6)
    np.testing.assert_allclose(latents, plain[1], atol=1e-6)
    (alone,) = buckets(frames, latents=False)
    np.testing.assert_allclose(alone, plain[0], atol=1e-6)


def test_an_answer_stays_what_it_was_when_the_next_frames_run(session: ort.InferenceSession) -> None:
    buckets = Buckets(session, "cpu", 2, graphs=False)
    first = some_frames(2)
    (answer,) = buckets(first, latents=False)
    buckets(255 - first, latents=False)
    np.testing.assert_allclose(answer, red_probability(first), atol=1e-5)


def test_threads_that_run_at_once_get_their_own_answers(session: ort.InferenceSession) -> None:
    engine = Engine(Buckets(session, "cpu", 4, graphs=False), "cuda", "fp32", 4)
    wrong: list[int] = []

    def run(seed: int) -> None:
        for turn in range(20):
            frames = some_frames(1 + (seed + turn) % 4, seed)
            if not np.allclose(engine.run(frames, latents=False).probability, red_probability(frames), atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_recording_runs_every_size_and_pins_every_input(session: ort.InferenceSession) -> None:
    pinned: list[tuple[int, ...]] = []
    buckets = Buckets(session, "cpu", 4, graphs=True, pin=lambda array: pinned.append(array.shape))
    buckets.record()
    assert pinned == [(size, 64, 64, 3) for size in buckets.sizes]


def test_settings_of_the_gpu_reach_the_providers(tmp_path: Path) -> None:
    plain = cuda_options(GpuOptions(), graphs=False)
    assert "gpu_mem_limit" not in plain
    assert plain["enable_cuda_graph"] == "0"
    limited = cuda_options(GpuOptions(mem_limit_bytes=1 << 30), graphs=True)
    assert (limited["gpu_mem_limit"], limited["enable_cuda_graph"]) == (str(1 << 30), "1")
    cached = tensorrt_options(GpuOptions(engine_cache=tmp_path), "fp16", 8)
    assert cached["trt_engine_cache_path"] == str(tmp_path)
    assert cached["trt_fp16_enable"] == "True"
    assert cached["trt_profile_max_shapes"] == "frames:8x64x64x3"
    assert "trt_engine_cache_path" not in tensorrt_options(GpuOptions(), "fp32", 8)


def test_a_session_that_fell_back_to_the_cpu_is_refused() -> None:
    for provider, words in (("cuda", "nvidia-smi"), ("tensorrt", "pip install tensorrt")):
        with pytest.raises(ProviderMissing, match=words):
            require_provider(CPU, provider)
