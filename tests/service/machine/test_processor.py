"""What is known of the processor."""

from pathlib import Path

import pytest

from service.machine.processor import dot_products


@pytest.mark.parametrize(
    ("line", "fast", "saturates", "words"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", True, False, "avx512_vnni"),
        ("flags\t\t: fpu avx2 avx_vnni", True, False, "avx_vnni"),
        ("Features\t: fp asimd asimddp", True, False, "asimddp"),
        ("flags\t\t: fpu avx2", False, True, "has no 8-bit dot products"),
        ("flags\t\t: fpu avx2 avx512f avx512bw", False, True, "has no 8-bit dot products"),
        ("flags\t\t: fpu ssse3", False, False, "has no 8-bit dot products"),
        ("model name\t: avx512_vnni in name only", False, False, "has no 8-bit dot products"),
    ],
)
def test_what_it_has_for_8_bit_products_is_read_off_its_flags(
    tmp_path: Path, line: str, fast: bool, saturates: bool, words: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    found = dot_products(tmp_path / "cpuinfo")
    assert (found.fast, found.saturates) == (fast, saturates)
    assert words in found.because


def test_where_nothing_is_known_of_the_processor_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert dot_products(tmp_path / "nothing") == (
        False,
        "whether the processor has 8-bit dot products is not known here",
        False,
    )
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert dot_products(tmp_path / "nothing").fast
