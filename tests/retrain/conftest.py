"""The toy model in a repository of its own, to be served as the service's own tests serve."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))


@pytest.fixture
def models(toy_bundle: Path, tmp_path: Path) -> Path:
    """A repository with version 1 of the toy model."""
    shutil.copytree(toy_bundle, tmp_path / "models/toy/1")
    return tmp_path / "models"
