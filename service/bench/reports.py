"""A benchmark's figures for people: as text, and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from service.bench.ceiling import Ceiling
    from service.bench.running import Report
    from service.bench.summaries import ClosedSummary, OpenSummary, Percentiles, Server

__all__ = ["draw", "open_lines", "text_of"]


def text_of(report: Report) -> str:
    """The figures, medians over the rounds where there are several."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    ready = "" if report.ready_s is None else f", ready after {report.ready_s:.1f} s"
    yield f"{report.url}: {report.cores} cores, answers of {report.reply_bytes} bytes{ready}"
    ceiling = report.ceiling()
    if ceiling is not None:
        yield (
            f"ceiling of the model alone, {ceiling.precision}: {ceiling.best:.1f} frames/s "
            f"(one session of {report.cores} threads {ceiling.one_session:.1f}, "
            f"{report.cores} callers of one session {ceiling.shared_session:.1f}); one frame {ceiling.frame_ms:.2f} ms"
        )
    for clients in report.clients():
        yield f"{clients} {'client' if clients == 1 else 'clients'}: {report.rate(clients):.1f} answers/s" + "".join(
            part
            for part, value in (
                (f", {report.of_ceiling(clients) or 0:.3f} of the ceiling around the loop", report.of_ceiling(clients)),
                (
                    f", median latency {report.over_model_ms(clients) or 0:+.2f} ms over the model's own then",
                    report.over_model_ms(clients) if clients == 1 else None,
                ),
            )
            if value is not None
        )
        for each in report.rounds:
            for closed in each.closed:
                if closed.clients == clients:
                    yield from _closed(closed)
    if report.open is not None:
        yield from open_lines(report.open, report.capacity(), report.open_ceiling)


def _closed(closed: ClosedSummary) -> Iterator[str]:
    yield (
        f"    {closed.rate:8.1f}/s  {_spread(closed.latency_ms)}{_refusals(closed.refusals)}{_lost(closed.lost)}  "
        f"generator {closed.generator.cpu_share:.0%} of a core{_server(closed.server)}"
    )
    if closed.stages_ms:
        yield f"              {_stages(closed.stages_ms)}"


def open_lines(result: OpenSummary, capacity: float, ceiling: Ceiling | None) -> Iterator[str]:
    """The figures of an open loop.

    Args:
        result: The figures.
        capacity: Answers a second in closed loops; 0 if that is not known.
        ceiling: The model alone around it, if that was measured.
    """
    load = f" = {result.offered / capacity:.2f} of capacity" if capacity else ""
    yield f"{result.robots} robots at {result.hz:.1f} Hz: {result.offered:.1f} frames/s offered{load}"
    share = f" = {result.in_time / capacity:.3f} of capacity" if capacity else ""
    if ceiling is not None:
        share += f", {result.in_time / ceiling.best:.3f} of the ceiling around the loop"
    deadline = "" if result.deadline_ms is None else f" within {result.deadline_ms:g} ms"
    yield f"    in time{deadline}: {result.in_time:.1f}/s{share}; missed {result.misses:.1%} of the frames"
    drained = f", {result.drained} more drained after the end" if result.drained else ""
    yield f"    answered {result.answered:.1f}/s{drained}  {_spread(result.latency_ms)}{_refusals(result.refusals)}"
    late = "none" if result.late_ms is None else f"{result.late}, by {_spread(result.late_ms)}"
    yield f"    late: {late}"
    if result.refusal_ms is not None:
        yield f"    a refusal took {_spread(result.refusal_ms)}"
    if result.stages_ms:
        yield f"    {_stages(result.stages_ms)}"
    if result.server.memory_mib is not None:
        first, last, most = result.server.memory_mib
        growth = result.server.memory_growth_mib_per_min
        slope = "" if growth is None else f", {growth:+.2f} MiB/min in the second half"
        yield f"    memory {first:.1f} MiB at the start, {last:.1f} at the end, {most:.1f} at most{slope}"
    if result.server.queue_frames is not None:
        first, last, most = result.server.queue_frames
        yield f"    queue {first:.1f} frames in the first third, {last:.1f} in the last, {most:.0f} at most"
    lag = "" if result.generator.lag_ms is None else f", sent {_spread(result.generator.lag_ms)} after the due time"
    yield f"    generator {result.generator.cpu_share:.0%} of a core at nice {result.generator.nice}{lag}"


def _spread(values: Percentiles | None) -> str:
    if values is None:
        return "no answer"
    return f"p50 {values.p50:.2f} p90 {values.p90:.2f} p99 {values.p99:.2f} max {values.max:.2f} ms"


def _refusals(counts: Mapping[int, int]) -> str:
    names = {0: "broken", -1: "unanswered"}
    return "".join(f"  {names.get(status, status)}: {count}" for status, count in counts.items())


def _lost(clients: int) -> str:
    return f"  {clients} of the clients could not connect again" if clients else ""


def _stages(stages: Mapping[str, float]) -> str:
    return "stages, medians: " + ", ".join(f"{stage} {duration:.2f} ms" for stage, duration in stages.items())


def _server(server: Server) -> str:
    cpu = "" if server.cpu_ms_per_request is None else f"  server {server.cpu_ms_per_request:.3f} CPU ms a request"
    return cpu + ("" if server.memory_mib is None else f", {server.memory_mib[2]:.0f} MiB")


def draw(report: Report, path: Path) -> None:
    """Draw rates against the ceiling, latencies, and stages. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - only a picture needs it
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    rates, latencies, stages = figure.subplots(1, 3)
    last = list({closed.clients: closed for each in report.rounds for closed in each.closed}.values())
    names = [f"{clients} clients" for clients in report.clients()]
    values = [report.rate(clients) for clients in report.clients()]
    if report.open is not None:
        names += ["open: in time"]
        values += [report.open.in_time]
    rates.bar(names, values, color="tab:blue")
    if (ceiling := report.ceiling()) is not None:
        rates.axhline(ceiling.best, color="black", linestyle="--", label="the model alone")
        rates.legend()
    rates.set_ylabel("answers a second")
    spreads = [(str(closed.clients), closed.latency_ms) for closed in last]
    if report.open is not None:
        spreads.append(("open", report.open.latency_ms))
    for quantile in ("p50", "p90", "p99"):
        points = [(name, getattr(spread, quantile)) for name, spread in spreads if spread is not None]
        latencies.plot([name for name, _ in points], [value for _, value in points], marker="o", label=quantile)
    latencies.set_yscale("log")
    latencies.set_ylabel("latency, ms")
    latencies.set_xlabel("clients")
    latencies.legend()
    told = [(str(closed.clients), closed.stages_ms) for closed in last]
    told += [("open", report.open.stages_ms)] if report.open is not None else []
    base = [0.0] * len(told)
    for stage in dict.fromkeys(stage for _, split in told for stage in split):
        heights = [split.get(stage, 0.0) for _, split in told]
        stages.bar([name for name, _ in told], heights, bottom=base, label=stage)
        base = [low + height for low, height in zip(base, heights, strict=True)]
    stages.set_ylabel("median of each stage, ms")
    stages.set_xlabel("clients")
    if told and any(split for _, split in told):
        stages.legend()
    figure.savefig(path, dpi=120)
