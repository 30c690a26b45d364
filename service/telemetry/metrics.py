"""Every Prometheus metric of the service, on a registry that the caller brings."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from prometheus_client import Gauge

from service import errors
from service.telemetry.by_version import VersionCounts
from service.telemetry.tallies import Counter, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from service.contract import Bundle
    from service.engine import Engine
    from service.versions.trial import Tally

__all__ = ["METHODS", "OUTCOMES", "STAGES", "Metrics"]

STAGES: Final = ("decode", "queue", "infer", "encode")
OUTCOMES: Final = ("ok", "refused", "shed", "superseded", "late", "failed", "abandoned")
_ASKED: Final = (
    "/segment",
    "/v2/models/{model}/infer",
    "/v2/models/{model}/versions/{version}/infer",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelStreamInfer",
)
"""Routes that frames come by; streams of websockets have no status of their own."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_RATIOS: Final = tuple(step / 20 for step in range(21))
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics; their labels take values from closed sets only, never what a client sent.

    Args:
        registry: Where they are registered and collected from.

    Attributes:
        by_version: What each version has answered; not exported.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.by_version: defaultdict[int, VersionCounts] = defaultdict(VersionCounts)
        self._served: tuple[str, ...] | None = None
        self.requests = Counter(
            "robomask_requests",
            "Requests answered, by route template, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.frames = Counter(
            "robomask_frames",
            "Frames by what became of them, however they came: /segment, /stream, /v2 or gRPC.",
            ["outcome"],
            registry=registry,
        )
        self.stages = Histogram(
            "robomask_stage_seconds",
            "Time that a request spent in each stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "robomask_batch_size", "Frames in one run of the model.", buckets=_BATCHES, registry=registry
        )
        self.queue_depth = Gauge("robomask_queue_depth", "Frames that wait for the model.", registry=registry)
        self.shed = Counter(
            "robomask_shed", "Requests refused because the service could not take them.", ["reason"], registry=registry
        )
        self.frame_age = Histogram(
            "robomask_frame_age_seconds",
            "Age of a frame when its answer was ready, for frames that came with their capture time.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.deadline_missed = Counter(
            "robomask_deadline_missed",
            "Requests with a deadline or a greatest age that were refused for it or answered late.",
            registry=registry,
        )
        self.superseded = Counter(
            "robomask_superseded",
            "Requests given up because a newer frame of their stream had come.",
            registry=registry,
        )
        self.model_info = Gauge(
            "robomask_model_info",
            "1 for the model in service.",
            ["name", "version", "precision", "provider"],
            registry=registry,
        )
        self.model_load_seconds = Gauge(
            "robomask_model_load_seconds",
            "How long the model in service took to verify, open, test and warm up.",
            registry=registry,
        )
        self.swaps = Counter(
            "robomask_swaps",
            "Changes of the models by what came of them: activated, rolled-back, refused, started, promoted, ...",
            ["result"],
            registry=registry,
        )
        self.model_frames = Counter(
            "robomask_model_frames", "Frames answered, by the version that did.", ["version"], registry=registry
        )
        self.sampled = Counter(
            "robomask_sampled_frames", "Hard frames that have been saved, by why.", ["why"], registry=registry
        )
        self.shadow_frames = Counter(
            "robomask_shadow_frames",
            "Frames that were to be run by a second model, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.shadow_iou = Histogram(
            "robomask_shadow_iou",
            "IoU of the masks that the model in service and the candidate of a trial give for one frame.",
            buckets=_RATIOS,
            registry=registry,
        )
        self.shadow_drift = Gauge(
            "robomask_shadow_drift",
            "Mean of the candidate's value less that of the model in service, over the trial.",
            ["measure"],
            registry=registry,
        )
        self.shadow_latency_ratio = Gauge(
            "robomask_shadow_latency_ratio",
            "Median run of the candidate over that of the model in service.",
            registry=registry,
        )
        self.mask_area_ratio = Histogram(
            "robomask_mask_area_ratio", "Share of a frame that is robot.", buckets=_RATIOS, registry=registry
        )
        self.mask_confidence = Histogram(
            "robomask_mask_confidence", "Confidence of a mask.", buckets=_RATIOS, registry=registry
        )

        # What is to be told of when it first happens has to be there before, at 0.
        self.swaps.labels("refused")
        for route in _ASKED:
            self.requests.labels(route, "POST", "500")
        for outcome in OUTCOMES:
            self.frames.labels(outcome)
        for outcome in ("compared", "dropped", "failed"):
            self.shadow_frames.labels(outcome)
        for stage in STAGES:  # so that every stage is there before the first request
            self.stages.labels(stage)

    def count_failure(self, error: errors.RobomaskError) -> None:
        """Count a request that ended in an error, once, where it is answered."""
        if isinstance(error, errors.Unavailable):
            self.shed.labels(error.reason).inc()
        elif isinstance(error, errors.Superseded):
            self.superseded.inc()
        elif isinstance(error, errors.Stale):
            self.deadline_missed.inc()
            self.shed.labels("deadline").inc()

    def serves(self, bundle: Bundle, engine: Engine, load_s: float) -> None:
        """Say which model is in service."""
        manifest = bundle.manifest
        labels = (manifest.name, str(manifest.version), engine.precision, engine.provider)
        self.model_info.labels(*labels).set(1)
        if self._served is not None and self._served != labels:
            self.model_info.remove(*self._served)
        self._served = labels
        self.model_load_seconds.set(load_s)

    def compares(self, tally: Tally) -> None:
        """Say what a trial has found so far."""
        self.shadow_drift.labels("area").set(tally.area_drift or 0.0)
        self.shadow_drift.labels("confidence").set(tally.confidence_drift or 0.0)
        if tally.latency_ratio is not None:
            self.shadow_latency_ratio.set(tally.latency_ratio)

    def compares_no_more(self) -> None:
        """The trial is over: what it found is no state of now."""
        self.shadow_drift.clear()
        self.shadow_latency_ratio.set(math.nan)
