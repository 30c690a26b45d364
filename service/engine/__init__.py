"""ONNX Runtime: choose a precision for the device, open a bundle's model on it, and run frames through it."""

from service.engine.buckets import bucket_sizes
from service.engine.checks import self_test, warm_up
from service.engine.choice import Choice, Provider, choose_precision
from service.engine.opening import Wanted, likely_provider, open_engine, precision_for, runs_in_caller
from service.engine.running import Engine, Prediction

__all__ = [
    "Choice",
    "Engine",
    "Prediction",
    "Provider",
    "Wanted",
    "bucket_sizes",
    "choose_precision",
    "likely_provider",
    "open_engine",
    "precision_for",
    "runs_in_caller",
    "self_test",
    "warm_up",
]
