"""How commands print what they have found."""

from __future__ import annotations

import os
import sys

__all__ = ["print_to_who_reads"]


def print_to_who_reads(text: str) -> None:
    """Print, to a reader who may have gone: `| head` has what it wants, and what was asked for is done."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python writes out what is left when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
