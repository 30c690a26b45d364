"""The `robomask` command, and what it must not load."""

import subprocess
import sys
from pathlib import Path

import pytest

import robomask

HEAVY = {"torch", "lightning", "onnx", "training", "export", "matplotlib", "scipy"}


def modules_loaded_by(*arguments: str) -> set[str]:
    """Top-level names of the modules that a Python process imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [("-m", "service", "--help"), ("-m", "robomask", "serve", "--help")])
def test_serving_loads_nothing_of_training(arguments: tuple[str, ...]) -> None:
    loaded = modules_loaded_by(*arguments)
    assert "fastapi" in loaded
    assert not loaded & HEAVY


def test_the_list_of_commands_loads_none_of_them() -> None:
    assert not modules_loaded_by("-m", "robomask", "--help") & (HEAVY | {"service", "pydantic", "numpy"})


@pytest.mark.parametrize("name", robomask.COMMANDS)
def test_every_command_says_what_it_can(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = robomask.main([name, "--help"])
    except SystemExit as stop:  # how argparse ends after its help
        status = stop.code
    assert status == 0
    assert f"usage: robomask {name}" in capsys.readouterr().out


def test_an_option_out_of_its_range_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert robomask.main(["train", "--out", "o", "--data.train", "x.npz", "--epochs", "0"]) == 2
    assert capsys.readouterr().err.splitlines() == ["robomask train: --epochs: Input should be greater than 0"]


def test_an_unknown_command_is_named_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert robomask.main(["segmnet"]) == 2
    said = capsys.readouterr().err
    assert "'segmnet'" in said
    assert "serve" in said


def test_a_missing_package_is_named_with_the_extra_that_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("lightning", "training.commands.train"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    absent = robomask.Command("lightning", "train", "")
    monkeypatch.setitem(robomask.COMMANDS, "absent", absent)
    assert robomask.main(["absent"]) == 1
    assert "robomask[train]" in capsys.readouterr().err


def test_the_shipped_bundles_are_whole() -> None:
    from service.contract import model_names, open_bundle, versions

    models = Path(__file__).parents[1] / "models"
    assert model_names(models)
    for name in model_names(models):
        for version in versions(models, name):
            assert open_bundle(models / name / str(version)).manifest.threshold > 0
