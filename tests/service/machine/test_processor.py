"""What is known of the processor."""

from pathlib import Path

import pytest

from service.machine.processor import dot_products


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
