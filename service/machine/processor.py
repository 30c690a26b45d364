"""What the processor can do, as far as it is known."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["CPU_INFO", "DotProducts", "dot_products"]

CPU_INFO: Final = Path("/proc/cpuinfo")

_DOT_PRODUCT_FLAGS: Final = ("avx512_vnni", "avx_vnni", "asimddp")
"""Instructions that multiply and add bytes, as Linux names them: Intel since 2019, AMD since 2022, ARM since 8.2.

Without them 8-bit products are not only slower: ONNX Runtime's sums of them saturate on older x86 processors.
"""
_PRODUCT_FLAGS: Final = frozenset({"avx2", "avx512bw"})
"""Those of x86 that multiply bytes and add each pair up in 16 bits, as wide as its registers."""


class DotProducts(NamedTuple):
    """What the processor has for sums of 8-bit products.

    Attributes:
        fast: Whether it has fast dot products.
        because: How that is known.
        saturates: Whether it has only the instructions before them: quick, but too narrow for all eight bits.
    """

    fast: bool
    because: str
    saturates: bool = False


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
    return DotProducts(
        fast=False, because="the processor has no 8-bit dot products", saturates=bool(_PRODUCT_FLAGS & words)
    )
