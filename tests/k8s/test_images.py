"""What the images are built from."""

import re
from pathlib import Path

from manifests_kit import ROOT


def test_everything_that_an_image_copies_is_let_into_the_build() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {Path(source).parts[0] for line in copies for source in line.split()[:-1] if not source.startswith("--")}
    assert {"service", "training", "export", "retrain"} <= sources
    assert sources <= let_in
    assert all((ROOT / source).exists() for source in sources)
