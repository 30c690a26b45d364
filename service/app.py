"""Where everything is made and handed to what needs it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import CollectorRegistry, ProcessCollector

from service.engine import likely_provider, runs_in_caller
from service.errors import StartFailed
from service.frames.limits import MemoryBudget
from service.machine.cores import usable_cores
from service.oip.infer import Tensors
from service.oip.protocol import OpenInference
from service.oip.repository import Repository
from service.oip.rest import open_inference_router
from service.scheduling.decoding import Decoding
from service.scheduling.scheduler import Scheduler
from service.stages import Stages
from service.telemetry.logs import RequestLog
from service.telemetry.metrics import Metrics
from service.versions.audit import Audit
from service.versions.control import Control
from service.versions.faults import Faults
from service.versions.models import Models, Opener
from service.versions.repository import open_repository
from service.versions.rules import Rules
from service.versions.sampling import Hardness, Sampler
from service.versions.watch import Watchers
from service.web import stream
from service.web.admin import AdminGate
from service.web.changes import change_router
from service.web.middleware import Envelope
from service.web.openapi import as_problems, with_admin
from service.web.pipeline import Pipeline
from service.web.segment import Express, Segment, answer_errors, segment_router
from service.web.state import page_router, state_router
from service.web.stream import Streaming, stream_router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.settings import Settings
    from service.telemetry.tracing import Tracing

__all__ = ["Service", "create_app", "create_models"]

_log = logging.getLogger(__name__)

_TITLE = "robomask"
_LEAST_GRACE_S: Final = 2.0
_OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_DESCRIPTION = f"""Frame in, mask out: tells a robot's own arm from the rest of what its camera sees.

# Streams

{stream.__doc__ or ""}"""


class Service(FastAPI):
    """The framework's application, with the one hot route in front of it.

    Attributes:
        express: Answers requests to that route that have come as a whole; for the protocol.
    """

    def __init__(self, segment: ASGIApp, express: Express, **options: Any) -> None:
        super().__init__(**options)
        self._segment = segment
        self.express = express

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] == "/segment" and scope["method"] == "POST":
            await self._segment(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_models(settings: Settings) -> Models:
    """The models that the settings name, not loaded yet.

    Raises:
        StartFailed: There are none.
    """
    opener = Opener(
        provider=settings.provider,
        precision=settings.precision,
        intra_op_threads=settings.intra_op_threads,
        max_batch=settings.max_batch,
        gpu=settings.gpu(),
        alone_threads=settings.alone_threads,
    )
    repository = open_repository(settings.models, settings.cache)
    return Models(repository, settings.model, settings.version, opener)


def create_app(settings: Settings, models: Models, on_load_failure: Callable[[BaseException], None]) -> Service:
    """The service. It answers at once, and is ready when the model has been loaded and tested.

    Args:
        settings: The settings.
        models: The models to serve; loaded when the application starts.
        on_load_failure: Called from the event loop if no model can be loaded.

    Raises:
        StartFailed: Something that the settings ask for is not installed.
    """
    if settings.version is not None and (settings.poll_s or settings.promote_if):
        _log.warning("version %d stays: newer ones are not looked for, though polling is on", settings.version)
    metrics = Metrics(CollectorRegistry())
    ProcessCollector(registry=metrics.registry)
    watchers = Watchers()
    stages = _stages(settings, metrics, watchers, Faults(models))
    pipeline = Pipeline(stages)
    sampler = _sampler(settings, metrics)
    if sampler is not None:
        watchers.add(sampler)
    control = Control(
        models,
        _rules(settings),
        audit=_audit(settings, metrics, models.name),
        metrics=metrics,
        watchers=watchers,
        busy=lambda: stages.scheduler.waiting_frames > 0,
        tell=None if sampler is None else sampler.disagreed,
    )
    gate = AdminGate(settings.admin_token)
    protocol = OpenInference(
        models=models,
        tensors=Tensors(stages),
        repository=Repository(models, control, gate),
        metrics=metrics,
    )

    log = RequestLog(settings.log_format)
    tracing = _tracing(settings)
    segment = Segment(pipeline, models, metrics, settings.body_timeout_s)

    def load() -> None:
        slot = control.load_first()
        metrics.serves(slot.bundle, slot.engine, slot.load_s)
        control.start()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(load))
        loading.add_done_callback(lambda task: _report(task, on_load_failure))
        if settings.version is None:  # a version that is named stays
            _on_hangup(lambda: control.rescan_soon("SIGHUP"))
        async with _grpc(settings, protocol, log, tracing, on_load_failure) as port:
            app.state.grpc_port = port
            yield
        loading.cancel()
        control.hurry()  # whoever has a listing made holds one of the threads that are about to be asked for
        await asyncio.to_thread(control.close)
        if sampler is not None:
            sampler.close()
        stages.close()
        log.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    envelope = functools.partial(Envelope, metrics=metrics, log=log, release=stages.release, tracing=tracing)
    around = envelope(segment, route="/segment")
    app = Service(
        around,
        Express(segment, around, stages.budget),
        title=_TITLE,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(segment_router())
    app.include_router(
        stream_router(
            Streaming(
                pipeline=pipeline,
                models=models,
                metrics=metrics,
                credit_limit=settings.stream_credits,
                idle_s=settings.stream_idle_s,
                limit=settings.stream_limit,
                tracing=tracing,
            )
        )
    )
    app.include_router(open_inference_router(protocol, settings.body_timeout_s))
    app.include_router(state_router(models, metrics))
    app.include_router(change_router(control, models, gate, settings.body_timeout_s))
    app.include_router(page_router())
    app.add_middleware(envelope)
    answer_errors(app, metrics)
    _describe(app)
    return app


@contextlib.asynccontextmanager
async def _grpc(
    settings: Settings,
    protocol: OpenInference,
    log: RequestLog,
    tracing: Tracing | None,
    on_failure: Callable[[BaseException], None],
) -> AsyncIterator[int | None]:
    """Serve gRPC meanwhile, if that is switched on; gives the port that it listens on."""
    if settings.grpc_port is None:
        yield None
        return
    try:
        from service.oip.rpc import RpcServer  # noqa: PLC0415 - only who switches it on needs to have it

        server = await RpcServer.start(protocol, log, settings.host, settings.grpc_port, tracing)
    except ImportError as error:
        on_failure(StartFailed(f"expected gRPC for --grpc-port, but {error}; install robomask[serve,grpc]"))
        yield None
        return
    except StartFailed as error:
        on_failure(error)
        yield None
        return
    try:
        yield server.port
    finally:
        # Requests over HTTP have been waited for meanwhile, and calls answered; both together end within one grace.
        await server.stop(max(_LEAST_GRACE_S, settings.shutdown_s - protocol.models.drained_s))


def _stages(settings: Settings, metrics: Metrics, watchers: Watchers, faults: Faults) -> Stages:
    limit_s = settings.queue_limit_ms / 1000
    # a worker that waits for a GPU has no core for itself
    cores = usable_cores() if likely_provider(settings.provider) == "cpu" else None
    scheduler = Scheduler(
        settings.workers, settings.queue_limit, metrics.batch_size.observe, limit_s=limit_s, cores=cores
    )
    metrics.queue_depth.set_function(lambda: scheduler.waiting_frames)
    n = settings.codec_threads
    codec = ThreadPoolExecutor(n, thread_name_prefix="robomask-codec")
    return Stages(
        scheduler=scheduler,
        codec=codec,
        decoding=Decoding(codec, n, limit=settings.queue_limit, limit_s=limit_s),
        budget=MemoryBudget(settings.max_inflight_bytes),
        limits=settings.limits(),
        metrics=metrics,
        watchers=watchers,
        faults=faults,
    )


def _tracing(settings: Settings) -> Tracing | None:
    """Traces, if a collector is named: by our setting, or by OpenTelemetry's variable, which may be set for all pods.

    Raises:
        StartFailed: Our setting names one, and OpenTelemetry is not installed.
    """
    if settings.otlp_endpoint is None and not any(os.environ.get(name) for name in _OTLP):
        return None
    try:
        from service.telemetry.tracing import open_tracing  # noqa: PLC0415 - only who switches it on needs to have it
    except ImportError as error:
        if settings.otlp_endpoint is not None:
            raise StartFailed(
                f"expected OpenTelemetry for --otlp-endpoint, but {error}; install robomask[serve,otel]"
            ) from error
        _log.warning("no traces, though %s is set: %s; install robomask[serve,otel]", _OTLP[0], error)
        return None
    return open_tracing(settings.otlp_endpoint)


def _rules(settings: Settings) -> Rules:
    return Rules(
        keep_previous=settings.keep_previous,
        provider=likely_provider(settings.provider),
        vet_s=settings.vet_s,
        max_batch=settings.max_batch,
        precision=settings.precision,
        gate=settings.gate(),
        shadow_share=settings.shadow_share,
        poll_s=settings.poll_s if settings.version is None else 0.0,
        low=runs_in_caller(settings.provider, settings.intra_op_threads),
    )


def _audit(settings: Settings, metrics: Metrics, model: str) -> Audit:
    try:
        return Audit(metrics, model, file=settings.audit_log)
    except OSError as error:
        raise StartFailed(
            f"expected to append to the file of --audit-log, {settings.audit_log}, it cannot be opened: {error}"
        ) from error


def _sampler(settings: Settings, metrics: Metrics) -> Sampler | None:
    if settings.sample_to is None:
        return None
    hardness = Hardness(settings.sample_confidence, settings.sample_iou, settings.sample_per_day, settings.sample_total)
    try:
        return Sampler(settings.sample_to, hardness, lambda why: metrics.sampled.labels(why).inc())
    except OSError as error:
        raise StartFailed(
            f"expected to make the folder of --sample-to, {settings.sample_to}, it cannot be made: {error}"
        ) from error


def _on_hangup(work: Callable[[], None]) -> None:
    """Do this on SIGHUP, where there is such a signal and the event loop runs on the thread that gets it.

    On a terminal the signal says that the terminal is gone, and ends the service as people expect.
    """
    if sys.stderr.isatty():
        return
    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, work)


def _report(loading: asyncio.Task[None], on_load_failure: Callable[[BaseException], None]) -> None:
    error = None if loading.cancelled() else loading.exception()
    if error is not None:
        on_load_failure(error)


def _describe(app: FastAPI) -> None:
    """Make `/openapi.json` when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            app.openapi_schema = with_admin(as_problems(document))
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # the way that FastAPI documents
