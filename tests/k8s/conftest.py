"""Makes the kit of this folder importable, and that of the service's tests."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "service")]
