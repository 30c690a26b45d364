"""What a frame takes by every way in: `/segment`, the Open Inference Protocol over REST and over gRPC, and no server.

One client, one frame after the other, the ways taking turns so that all meet the same machine.

python -m benchmarks.open_inference --models models --rounds 300
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import tritonclient.grpc
import tritonclient.http

from benchmarks.standin import arm_frame, publish_standin
from service.bench.servers import serving
from service.contract import model_names, open_bundle, versions
from service.engine import Wanted, open_engine

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="model repository; by default a small stand-in is made")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--port", type=int, default=8767, help="for HTTP; gRPC takes the next")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or Path(folder)
        if chosen.models is None:
            publish_standin(models, 1)
        port = chosen.port
        with (
            serving(["--models", str(models), "--provider", "cpu", "--grpc-port", str(port + 1)], port) as served,
            httpx.Client(base_url=served.url, trust_env=False) as web,
        ):
            ways = _ways(models, web, port)
            took: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(chosen.rounds + 20):
                for name, way in ways.items():
                    started = time.perf_counter()
                    way()
                    if turn >= 20:
                        took[name].append((time.perf_counter() - started) * 1000)
    for name, times in took.items():
        print(f"{name:<51} median {statistics.median(times):7.3f} ms   p95 {np.percentile(times, 95):7.3f} ms")


def _ways(models: Path, web: httpx.Client, port: int) -> dict[str, Callable[[], Any]]:
    name = model_names(models)[0]
    frames = np.ascontiguousarray(arm_frame(0, 64, 64))[np.newaxis]
    bundle = open_bundle(models / name / str(versions(models, name)[-1]))
    engine = open_engine(bundle, Wanted("cpu"))
    raw = {"Content-Type": "application/octet-stream", "Accept": "application/x-npy"}
    ways: dict[str, Callable[[], Any]] = {
        "in process, ONNX Runtime": lambda: engine.run(frames, latents=False),
        "/segment, raw pixels in, masks out": lambda: web.post(
            "/segment?width=64&height=64", content=frames.tobytes(), headers=raw
        ).raise_for_status(),
    }
    for way, module, at in (("REST, binary", tritonclient.http, port), ("gRPC", tritonclient.grpc, port + 1)):
        client = module.InferenceServerClient(f"127.0.0.1:{at}")
        for outputs in (["probability"], ["probability", "latents"]):
            ways[f"tritonclient {way}: {' and '.join(outputs)}"] = _inference(module, client, name, frames, outputs)
    return ways


def _inference(
    module: Any, client: Any, name: str, frames: np.ndarray[Any, Any], outputs: list[str]
) -> Callable[[], Any]:
    tensor = module.InferInput("frames", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames)
    wanted = [module.InferRequestedOutput(output) for output in outputs]
    return lambda: client.infer(name, [tensor], outputs=wanted).as_numpy("probability")


if __name__ == "__main__":
    main()
