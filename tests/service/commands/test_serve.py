"""`robomask serve` as people start and stop it, and its settings."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from service_kit import publish_tiny

from service.machine.cores import usable_cores
from service.settings import Settings, unknown_variables


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | environment
    )


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_it_starts_answers_and_stops_with_status_zero(tmp_path: Path, free_port: int) -> None:
    publish_tiny(tmp_path)
    command = [
        sys.executable,
        "-m",
        "service",
        "--models",
        str(tmp_path),
        "--port",
        str(free_port),
        "--log-format",
        "json",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:  # ends when the process does
            seen += line
            if "is ready in" in line:
                break
        assert "fp32 on cpu" in seen, seen
        assert httpx.get(f"http://127.0.0.1:{free_port}/readyz", timeout=30).json()["ready"] is True
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 0, rest
        assert "Traceback" not in rest


def test_a_kept_connection_gets_its_answer_while_the_service_stops(tmp_path: Path, free_port: int) -> None:
    publish_tiny(tmp_path)
    command = [sys.executable, "-m", "service", "--models", str(tmp_path), "--port", str(free_port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "is ready in" in line)
        kept = [http.client.HTTPConnection("127.0.0.1", free_port, timeout=30) for _ in range(8)]
        for connection in kept:
            assert ask(connection) == "200"
        process.send_signal(signal.SIGTERM)
        for connection in kept:
            while ask(connection) != "close":  # the signal may take a moment; a reset would raise
                pass
        rest = process.stderr.read()
        assert process.wait(60) == 0, rest


def ask(connection: http.client.HTTPConnection) -> str:
    """Whether the connection is to be closed, or else the status of the answer."""
    connection.request("GET", "/livez")
    answer = connection.getresponse()
    answer.read()
    return "close" if answer.headers.get("connection") == "close" else str(answer.status)


def test_without_a_model_it_says_where_it_looked_and_exits(tmp_path: Path) -> None:
    result = serve("--models", str(tmp_path))
    assert result.returncode == 1
    assert f"expected a model repository with <model>/<version>/manifest.json in {tmp_path}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bundle_that_is_refused_ends_the_process_with_the_reason(tmp_path: Path) -> None:
    (publish_tiny(tmp_path).folder / "card.md").write_text("changed")
    result = serve("--models", str(tmp_path), "--port", "0")
    assert result.returncode == 1
    assert "every one was refused: version 1:" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_audit_log_that_cannot_be_written_to_ends_the_process_at_once(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    log = tmp_path / "nowhere" / "audit.jsonl"
    result = serve("--models", str(tmp_path), "--port", "0", "--audit-log", str(log))
    assert result.returncode == 1
    assert f"expected to append to the file of --audit-log, {log}, it cannot be opened" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_describes_every_setting_and_importing_stays_light() -> None:
    result = serve("--help", COLUMNS="200")
    assert result.returncode == 0
    text = " ".join(result.stdout.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description
        assert " ".join(field.description.split())[:60] in text
    code = "import sys, service.commands.serve as s; print([m for m in sys.modules if m.split('.')[0] in "
    code += "{'torch', 'onnx', 'training', 'export', 'matplotlib'}])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout
    assert out.strip() == "[]"


def test_a_wrong_setting_is_named_without_a_traceback() -> None:
    result = serve("--port", "99999", ROBOMASK_MAX_FRAMES="many")
    assert result.returncode == 2
    assert "--port" in result.stderr
    assert "--max-frames" in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOMASK_MAX_FRAMES", "3")
    monkeypatch.setenv("ROBOMASK_PROVIDER", "cpu")
    settings = Settings()
    assert (settings.max_frames, settings.provider, settings.host, settings.port) == (3, "cpu", "127.0.0.1", 8000)
    assert settings.workers == settings.codec_threads == usable_cores()


def test_what_kubernetes_sets_beside_a_service_of_this_name_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOMASK_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("ROBOMASK_PORT_8000_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("ROBOMASK_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("ROBOMASK_PROVDER", "cuda")
    assert Settings().port == 8000
    assert unknown_variables() == ["ROBOMASK_PROVDER"]


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_inflight_bytes to be at least max_body_bytes"):
        Settings(max_body_bytes=100, max_inflight_bytes=99)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 10**6),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 10**6),
    ],
)
def test_cores_are_cut_down_to_a_containers_limit(tmp_path: Path, files: dict[str, str], most: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    granted = usable_cores(tmp_path / "nowhere")
    assert usable_cores(tmp_path) == min(granted, most)
