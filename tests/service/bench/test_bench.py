"""The command as a whole, on the tiny model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from service_kit import Running
from small_servers import GOOD, small_server

from service.bench.ceiling import Ceiling, CeilingProcess
from service.bench.errors import BenchError
from service.bench.running import Round
from service.bench.watching import Watch, cpu_seconds, resident_bytes, tree_of
from service.commands.bench import main

QUICK = ["--seconds", "0.2", "--rounds", "1", "--open-seconds", "0.4"]

INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from service.commands.bench import main
sys.exit(main(sys.argv[1:]))
"""
"""`robomask bench` as from a terminal: shells have what they run in the background ignore interruptions."""


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
    in_time = next(line for line in said.splitlines() if "in time within" in line)
    best = max(report["open_ceiling"][:2])
    assert f", {report['open']['in_time'] / best:.3f} of the ceiling around the loop;" in in_time
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


def test_it_starts_this_very_service_in_a_folder_that_has_another_of_that_name(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert main(["--serve", "--bundle", str(repository / "tiny" / "1"), "--clients", "1", *QUICK]) == 0


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
        (["--pid", str(2**22 + 1)], 2, "expected a process of this machine"),
    ],
)
def test_what_would_fail_in_the_end_is_said_at_the_start(
    options: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [] if "--url" in options else ["--url", "http://127.0.0.1:1"]
    assert main([*where, *options]) == status
    assert words in capsys.readouterr().err


def test_a_frame_a_second_for_a_second_is_one_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    with small_server(GOOD) as server:
        url = "http://{}:{}/segment".format(*server.address)
        options = ["--clients", "[]", "--robots", "1", "--hz", "1", "--open-seconds", "1", "--deadline-ms", "30000"]
        assert main(["--url", url, *options]) == 0
    said = capsys.readouterr().out
    assert "1.0 frames/s offered" in said
    assert "in time within 30000 ms: 1.0/s" in said


def test_a_server_that_goes_away_later_leaves_what_was_measured_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    with small_server(GOOD, connections=6) as server:  # the probe's, 1 + 2 of a round, 1 + 1 of the next
        where = ["--url", "http://{}:{}".format(*server.address), "--protocol", "v2"]
        options = ["--clients", "1,2", "--seconds", "0.1", "--rounds", "3"]
        assert main([*where, *options, "--json", str(figures), "--plot", str(picture)]) == 1
    said = capsys.readouterr()
    assert "2 clients:" in said.out
    assert "none of 2 connections could be opened again; these are the figures from before that" in said.err
    report = json.loads(figures.read_text())
    assert [[loop["clients"] for loop in each["closed"]] for each in report["rounds"]] == [[1, 2], [1]]
    assert "went away" in report["failure"]
    assert picture.exists()


def test_an_open_loop_too_short_for_a_frame_leaves_the_closed_loops(capsys: pytest.CaptureFixture[str]) -> None:
    with small_server(GOOD) as server:
        where = ["--url", "http://{}:{}".format(*server.address), "--protocol", "v2"]
        assert main([*where, "--clients", "1", "--load", "0.000001", *QUICK]) == 1
    said = capsys.readouterr()
    assert "1 client:" in said.out
    assert "expected --open-seconds long enough for a frame" in said.err


@pytest.mark.parametrize(
    ("path", "metrics"), [("", "/metrics"), ("/segment", "/metrics"), ("/cell7/arm/segment?a=b", "/cell7/arm/metrics")]
)
def test_metrics_are_read_beside_the_route_and_as_directly_as_the_load_goes(
    path: str, metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with small_server(GOOD) as server:
        url = "http://{}:{}".format(*server.address) + path
        assert main(["--url", url, "--clients", "1", *QUICK]) == 0
    asked = {head.split()[1].decode() for head in server.heads if head.startswith(b"GET ")}
    assert asked == {metrics}


def test_memory_and_time_are_counted_in_the_units_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # it asks for no more memory from here on
        fields = Path(f"/proc/{process.pid}/statm").read_text().split()
        monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 65536, "SC_CLK_TCK": 1000}.__getitem__)
        assert resident_bytes([process.pid]) == int(fields[1]) * 65536
        ticks = sum(map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[11:13]))
        assert cpu_seconds([os.getpid()]) == pytest.approx(ticks / 1000, abs=0.05)
        process.kill()


def test_the_figures_are_written_though_nobody_reads_what_is_printed(tmp_path: Path) -> None:
    figures = tmp_path / "bench.json"
    with small_server(GOOD) as server:
        url = "http://{}:{}".format(*server.address)
        command = [sys.executable, "-m", "robomask", "bench", "--url", url, "--clients", "1", *QUICK]
        process = subprocess.Popen(
            [*command, "--json", str(figures)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0
        process.stderr.close()
    assert said.splitlines()[-1].startswith("robomask bench: closed loop")
    assert json.loads(figures.read_text())["rounds"]


@pytest.mark.parametrize("reaped", [False, True])
def test_what_a_process_used_is_unknown_once_it_has_ended(reaped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with Watch(process.pid, None, pace_s=60) as watch:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        assert (watch.samples[0].resident_bytes or 0) > 0
        assert watch.samples[-1][1:] == (None, None, None)


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


def test_interrupted_it_keeps_what_was_measured(repository: Path, tmp_path: Path) -> None:
    figures = tmp_path / "bench.json"
    command = [sys.executable, "-c", INTERRUPTIBLE, "--serve", "--bundle", str(repository / "tiny" / "1")]
    options = ["--clients", "1", "--seconds", "0.1", "--rounds", "1000", "--json", str(figures)]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    assert any("round 2" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said = process.stderr.read()
    assert process.wait(timeout=60) == 130
    process.stderr.close()
    assert said.endswith("robomask bench: interrupted; these are the figures from before that\n")
    assert "Traceback" not in said
    report = json.loads(figures.read_text())
    assert len(report["rounds"][0]["closed"]) == 1
    assert report["failure"] == "interrupted"


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
