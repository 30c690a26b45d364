"""Which of a bundle's precisions suits the device: decided by what the device is, so that equal machines agree."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from service.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.contract import Precision

__all__ = ["CPU_INFO", "Choice", "DotProducts", "Provider", "choose_precision", "dot_products"]

Provider = Literal["cuda", "tensorrt", "cpu"]

CPU_INFO: Final = Path("/proc/cpuinfo")

_DOT_PRODUCT_FLAGS: Final = ("avx512_vnni", "avx_vnni", "asimddp")
"""Instructions that multiply and add bytes, as Linux names them: Intel and AMD since 2019, ARM since 8.2.

Without them 8-bit products are not only slower: ONNX Runtime's sums of them saturate on older x86 processors.
"""


class DotProducts(NamedTuple):
    """Whether the processor has fast 8-bit dot products, and how that is known."""

    fast: bool
    because: str


class Choice(NamedTuple):
    """A precision, and why it is this one: a sentence for the log and for `/models`."""

    precision: Precision
    reason: str


def dot_products(cpu_info: Path = CPU_INFO) -> DotProducts:
    """What is known of this processor.

    Args:
        cpu_info: Where Linux describes it.
    """
    try:
        text = cpu_info.read_text("utf-8", "replace")
    except OSError:
        if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
            return DotProducts(fast=True, because="every Apple processor of this kind has 8-bit dot products")
        return DotProducts(fast=False, because="whether the processor has 8-bit dot products is not known here")
    words = {
        word
        for line in text.splitlines()
        if line.partition(":")[0].strip() in {"flags", "Features"}
        for word in line.partition(":")[2].split()
    }
    for flag in _DOT_PRODUCT_FLAGS:
        if flag in words:
            return DotProducts(fast=True, because=f"the processor has 8-bit dot products ({flag})")
    return DotProducts(fast=False, because="the processor has no 8-bit dot products")


def choose_precision(
    wanted: Precision | None,
    provider: Provider,
    offered: Collection[Precision],
    default: Precision,
    dots: DotProducts,
) -> Choice:
    """The precision to serve.

    Args:
        wanted: What the settings name, which settles it.
        provider: Where the model will run.
        offered: What the bundle has.
        default: What the bundle recommends where nothing better is known.
        dots: What is known of the processor.

    >>> choose_precision(None, "cpu", ["fp32", "int8"], "fp32", DotProducts(True, "it has them"))
    Choice(precision='int8', reason='it has them')
    """
    if wanted is not None:
        return Choice(wanted, "the settings name it")
    if provider != "cpu":
        if "fp16" in offered:
            return Choice("fp16", "GPUs have fast 16-bit arithmetic")
        return _plain(offered, default, "the bundle has no fp16 model for GPUs")
    if "int8" not in offered:
        return _plain(offered, default, "the bundle has no int8 model")
    if dots.fast:
        return Choice("int8", dots.because)
    return _plain(offered, default, f"{dots.because}; int8 can be had with --precision int8")


def _plain(offered: Collection[Precision], default: Precision, reason: str) -> Choice:
    """fp32, or the bundle's own recommendation if it has none."""
    if "fp32" in offered:
        return Choice("fp32", reason)
    return Choice(default, f"{reason}, and it recommends {quoted(default)}")
