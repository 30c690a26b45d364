"""The precision follows from the device, and the engine says why."""

from pathlib import Path

import pytest
from service_kit import golden_frames, publish_tiny, red_probability, serving, tiny_onnx

from service.contract import Golden, Precision, open_bundle
from service.engine import Provider, Wanted, choose_precision, open_engine
from service.engine.choice import DotProducts, dot_products

FAST = DotProducts(fast=True, because="it has them")
SLOW = DotProducts(fast=False, because="it has none")
ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@pytest.mark.parametrize(
    ("wanted", "provider", "offered", "dots", "precision", "words"),
    [
        (None, "cpu", ALL, FAST, "int8", "it has them"),
        (None, "cpu", ALL, SLOW, "fp32", "it has none; int8 can be had with --precision int8"),
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


@pytest.mark.parametrize(
    ("line", "fast", "words"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", True, "avx512_vnni"),
        ("flags\t\t: fpu avx2 avx_vnni", True, "avx_vnni"),
        ("Features\t: fp asimd asimddp", True, "asimddp"),
        ("flags\t\t: fpu avx2", False, "has no 8-bit dot products"),
        ("model name\t: avx512_vnni in name only", False, "has no 8-bit dot products"),
    ],
)
def test_dot_products_are_read_off_the_processors_flags(tmp_path: Path, line: str, fast: bool, words: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    found = dot_products(tmp_path / "cpuinfo")
    assert found.fast is fast
    assert words in found.because


def test_where_nothing_is_known_of_the_processor_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert dot_products(tmp_path / "nothing") == (
        False,
        "whether the processor has 8-bit dot products is not known here",
    )
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert dot_products(tmp_path / "nothing").fast


def test_the_engine_of_a_bundle_with_int8_follows_the_processor(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, precisions={"fp32": tiny_onnx(), "int8": tiny_onnx()}).folder
    engine = open_engine(open_bundle(folder), Wanted(provider="cpu"))
    assert engine.precision == ("int8" if dot_products().fast else "fp32")
    assert dot_products().because in engine.reason
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
