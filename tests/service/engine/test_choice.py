"""The precision follows from the device, and the engine says why."""

from pathlib import Path

import pytest
from service_kit import golden_frames, publish_tiny, red_probability, serving, tiny_onnx

from service.contract import Golden, Precision, open_bundle
from service.engine import Provider, Wanted, choose_precision, open_engine
from service.machine.processor import DotProducts, dot_products

FAST = DotProducts(fast=True, because="it has them")
SLOW = DotProducts(fast=False, because="it has none")
NARROW = DotProducts(fast=False, because="it has none", saturates=True)
ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@pytest.mark.parametrize(
    ("wanted", "provider", "offered", "dots", "precision", "words"),
    [
        (None, "cpu", ALL, FAST, "int8", "it has them"),
        (None, "cpu", ALL, SLOW, "fp32", "it has none; --precision int8 tries it"),
        (None, "cpu", ALL, NARROW, "int8", "it has none; with weights of 7 bits"),
        (None, "cpu", ("fp32", "fp16"), FAST, "fp32", "no int8 model"),
        (None, "cuda", ALL, FAST, "fp16", "GPUs"),
        (None, "tensorrt", ("fp32", "int8"), FAST, "fp32", "no fp16 model"),
        ("fp32", "cpu", ALL, FAST, "fp32", "the settings name it"),
        ("int8", "cuda", ALL, SLOW, "int8", "the settings name it"),
        (None, "cpu", ("int8",), SLOW, "int8", "it recommends 'int8'"),
    ],
)
def test_the_precision_suits_the_device(
    wanted: Precision | None,
    provider: Provider,
    offered: tuple[Precision, ...],
    dots: DotProducts,
    precision: Precision,
    words: str,
) -> None:
    choice = choose_precision(wanted, provider, offered, offered[0], dots)
    assert choice.precision == precision
    assert words in choice.reason


def test_the_engine_of_a_bundle_with_int8_follows_the_processor(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, precisions={"fp32": tiny_onnx(), "int8": tiny_onnx()}).folder
    engine = open_engine(open_bundle(folder), Wanted(provider="cpu"))
    known = dot_products()
    assert engine.precision == ("int8" if known.fast or known.saturates else "fp32")
    assert known.because in engine.reason
    named = open_engine(open_bundle(folder), Wanted(provider="cpu", precision="fp32"))
    assert (named.precision, named.reason) == ("fp32", "cpu: the settings name the CPU; fp32: the settings name it")


def test_each_precision_is_tested_with_its_own_tolerance_and_models_says_why_it_serves(tmp_path: Path) -> None:
    frames = golden_frames()
    golden = Golden(frames, red_probability(frames).astype("float32"), 1e-4, {"int8": 0.3})
    publish_tiny(tmp_path, precisions={"fp32": tiny_onnx(), "int8": tiny_onnx(bias=-3.9)}, golden=golden)
    with serving(tmp_path, precision="int8") as running:
        (version,) = running.client.get("/models").json()["versions"]
    assert version["precision"] == "int8"
    assert version["engine_reason"] == "cpu: the settings name the CPU; int8: the settings name it"
