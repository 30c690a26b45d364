"""Models are held against services too, which are served as the service's own tests serve."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))
