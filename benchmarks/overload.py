"""Twice as many frames as the service can do, each with a deadline: how many are answered in time, and how late others.

python -m benchmarks.overload --models models --seconds 60 --deadline-ms 100
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from collections import Counter
from pathlib import Path

from PIL import Image

from benchmarks.load import Reply, closed_loop, open_loop
from benchmarks.server import Served, serve
from benchmarks.standin import arm_frame, publish_standin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="model repository; by default a small stand-in is made")
    parser.add_argument("--scale", type=int, default=32, help="how heavy the stand-in is; 1 is a quick model")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--deadline-ms", type=float, default=100.0)
    parser.add_argument("--factor", type=float, default=2.0, help="offered load as a multiple of the capacity")
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("options", nargs="*", help="further options of `robomask serve`, after --")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or Path(folder)
        if chosen.models is None:
            publish_standin(models, chosen.scale)
        file = io.BytesIO()
        Image.fromarray(arm_frame(0)).save(file, "PNG")
        with serve(models, chosen.port, *chosen.options) as served:
            asyncio.run(_measure(chosen, served, file.getvalue()))


async def _measure(chosen: argparse.Namespace, served: Served, body: bytes) -> None:
    port = served.port
    headers = {"Content-Type": "image/png"}
    await closed_loop(port, "/segment", headers, body, clients=8, seconds=1.0)
    before = await _capacity(port, headers, body)
    urgent = headers | {"X-Deadline-Ms": f"{chosen.deadline_ms:g}"}
    memory = [served.resident_mb()]
    replies: list[Reply] = []
    for _ in range(4):
        replies += await open_loop(
            port, "/segment", urgent, body, rate=chosen.factor * before, seconds=chosen.seconds / 4
        )
        memory.append(served.resident_mb())
    after = await _capacity(port, headers, body)
    capacity = (before + after) / 2
    answered = [reply.seconds * 1000 for reply in replies if reply.status == 200]
    in_time = sum(ms <= chosen.deadline_ms for ms in answered) / chosen.seconds
    slowest_refusal = max((r.seconds * 1000 for r in replies if r.status != 200), default=0.0)
    print(f"capacity before {before:.1f}/s, after {after:.1f}/s; offered {chosen.factor * before:.1f}/s")
    share = in_time / capacity
    counts = dict(Counter(reply.status for reply in replies))
    print(f"answered in time {in_time:.1f}/s = {share:.2f} of capacity; {counts}")
    answered.sort()
    if answered:
        middle, high = answered[len(answered) // 2], answered[int(len(answered) * 0.99)]
        late = [ms - chosen.deadline_ms for ms in answered if ms > chosen.deadline_ms]
        worst = max(late, default=0.0)
        print(f"answers: median {middle:.1f} ms, p99 {high:.1f} ms; {len(late)} late, by at most {worst:.1f} ms")
    print(f"slowest refusal {slowest_refusal:.1f} ms; resident MB {', '.join(f'{mb:.0f}' for mb in memory)}")


async def _capacity(port: int, headers: dict[str, str], body: bytes) -> float:
    replies = await closed_loop(port, "/segment", headers, body, clients=8, seconds=3.0)
    return sum(reply.status == 200 for reply in replies) / 3.0


if __name__ == "__main__":
    main()
