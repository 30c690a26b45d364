"""Which of a bundle's precisions suits the device: decided by what the device is, so that equal machines agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from service.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.contract import Precision
    from service.machine.processor import DotProducts

__all__ = ["Choice", "Provider", "choose_precision"]

Provider = Literal["cuda", "tensorrt", "cpu"]


class Choice(NamedTuple):
    """A precision, and why it is this one: a sentence for the log and for `/models`."""

    precision: Precision
    reason: str


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

    >>> from service.machine.processor import DotProducts
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
    if dots.fast or dots.saturates:
        narrow = "" if dots.fast else "; with weights of 7 bits it is the quicker even so"
        return Choice("int8", dots.because + narrow)
    return _plain(offered, default, f"{dots.because}; --precision int8 tries it")


def _plain(offered: Collection[Precision], default: Precision, reason: str) -> Choice:
    """fp32, or the bundle's own recommendation if it has none."""
    if "fp32" in offered:
        return Choice("fp32", reason)
    return Choice(default, f"{reason}, and it recommends {quoted(default)}")
