"""What keeps a benchmark from being run."""

__all__ = ["BenchError"]


class BenchError(Exception):
    """Nothing was measured; the message says what was expected, what came, and what to do."""
