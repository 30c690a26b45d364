"""`robomask models` as it is used in a shell."""

import subprocess
import sys
from pathlib import Path

import pytest
from service_kit import publish_tiny, serving

from service.commands.models import main


@pytest.mark.parametrize("share", ["nan", "1.5", "-1", "abc"])
def test_a_share_that_is_none_is_refused_in_one_line(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["shadow", "1", f"--share={share}"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f"argument --share: expected a share of streams, 0 to 1, got {share}\n")


def test_the_help_says_what_needs_the_token(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "activate, rollback, shadow and canary need ROBOMASK_ADMIN_TOKEN" in said


def test_what_cannot_be_sent_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--url", "http://a..b"]) == 1
    assert capsys.readouterr().err.startswith("robomask models: expected the address of a service")
    monkeypatch.setenv("ROBOMASK_ADMIN_TOKEN", "na\u00efve")
    assert main(["list"]) == 1
    assert capsys.readouterr().err.startswith("robomask models: expected an admin token of printable ASCII")


def test_a_reader_who_has_gone_is_no_failure(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path) as running:
        command = [sys.executable, "-m", "robomask", "models", "list", "--url", f"http://127.0.0.1:{running.port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
    assert process.returncode == 0
