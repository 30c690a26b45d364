"""The command as a whole, on the tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from service_kit import Running

from service.bench.ceiling import Ceiling, CeilingProcess
from service.bench.errors import BenchError
from service.bench.running import Round
from service.bench.watching import tree_of
from service.commands.bench import main

QUICK = ["--seconds", "0.2", "--rounds", "1", "--open-seconds", "0.4"]


def test_a_service_that_runs_is_measured(
    service: Running, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    status = main(
        [
            *("--url", f"http://127.0.0.1:{service.port}", "--bundle", str(repository / "tiny" / "1")),
            *("--clients", "1,3", "--load", "0.5", "--pid", str(os.getpid()), *QUICK),
            *("--json", str(figures), "--plot", str(picture)),
        ]
    )
    assert status == 0
    said = capsys.readouterr().out
    for words in ("ceiling of the model alone", "3 clients", "in time within 100 ms", "late:", "memory", "queue"):
        assert words in said
    report = json.loads(figures.read_text())
    assert [closed["clients"] for closed in report["rounds"][0]["closed"]] == [1, 3]
    assert report["rounds"][0]["closed"][1]["rate"] > 0
    assert [len(each["ceilings"]) for each in report["rounds"]] == [3]  # before, between and after both loops
    assert {"decode", "queue", "infer", "encode"} <= report["rounds"][0]["closed"][0]["stages_ms"].keys()
    assert report["open"]["server"]["memory_mib"] is not None
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_closed_loop_stands_beside_the_model_alone_just_before_and_just_after() -> None:
    slow, quick = Ceiling(8.0, 10.0, 100.0, "int8"), Ceiling(16.0, 20.0, 50.0, "int8")
    found = Round(ceilings=[slow, quick, quick], closed=[])
    assert found.beside(0) == (12.0, 15.0, 75.0, "int8")
    assert found.beside(1) == quick
    assert Round(ceilings=[], closed=[]).beside(0) is None


def test_it_starts_the_service_itself(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(repository / "tiny" / "1")
    assert main(["--serve", "--bundle", bundle, "--clients", "2", "--serve-options", "--workers 1", *QUICK]) == 0
    assert "ready after" in capsys.readouterr().out


def test_a_service_that_does_not_start_is_quoted(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--serve", "--bundle", str(repository / "tiny" / "9"), *QUICK]) == 1
    assert "version 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--json", "nowhere/x.json"], 2, "expected a folder"),
        (["--plot", "x.txt"], 2, "expected a name that ends in .png"),
        (["--robots", "2", "--hz", "0.1", "--open-seconds", "4"], 2, "expected an open loop long enough"),
        (["--url", "http://here:port"], 1, "expected an address"),
    ],
)
def test_what_would_fail_in_the_end_is_said_at_the_start(
    options: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [] if "--url" in options else ["--url", "http://127.0.0.1:1"]
    assert main([*where, *options]) == status
    assert words in capsys.readouterr().err


def test_told_to_stop_it_stops_the_service_that_it_started(repository: Path) -> None:
    command = [sys.executable, "-m", "robomask", "bench", "--serve", "--bundle", str(repository / "tiny" / "1")]
    process = subprocess.Popen([*command, "--seconds", "60"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("round 1" in line for line in process.stderr)  # the service has answered by then
    family = tree_of(process.pid)
    process.terminate()
    assert process.wait(timeout=60) == 143
    process.stderr.close()
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize("options", [[], ["--serve"], ["--url", "http://x", "--serve", "--bundle", "b"]])
def test_options_that_do_not_go_together_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 2
    assert "expected" in capsys.readouterr().err


def test_the_ceiling_of_a_bundle_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="expected a bundle"):
        CeilingProcess(tmp_path / "m" / "1", None, 2)


def test_the_ceiling_can_be_measured_again_and_again(repository: Path) -> None:
    with CeilingProcess(repository / "tiny" / "1", "fp32", 2) as process:
        for _ in range(2):
            ceiling = process.measure(0.1)
            assert ceiling.best == max(ceiling.one_session, ceiling.shared_session) > 0
            assert ceiling.frame_ms > 0
