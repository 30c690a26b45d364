"""Runs and bundles in a real store of MLflow."""

from pathlib import Path

import pytest

pytest.importorskip("mlflow", reason="needs robomask[mlflow]")
pytest.importorskip("alembic", reason="needs robomask[mlflow]")

from export.registry import SHA256_TAG, register
from service.contract import open_bundle
from training.config import DataConfig, ModelConfig, Trackers, TrainConfig
from training.loggers import PROJECT, mlflow_run_id
from training.trainer import train


def test_a_run_is_tracked_once_and_its_bundle_registered_once(
    toy_file: Path, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)  # where MLflow would put what it has no other place for
    store = f"sqlite:///{tmp_path}/mlflow.db"
    config = TrainConfig(
        out=tmp_path / "run", data=DataConfig(train=(toy_file,)), model=ModelConfig(layers=(1, 1, 1, 1)),
        epochs=1, steps_per_epoch=1, batch_size=2, precision="32-true", log=Trackers(mlflow=store),
    )  # fmt: skip
    for _ in range(2):  # the second time it goes on from the end of the first
        train(config)
    client = MlflowClient(store, store)
    experiment = client.get_experiment_by_name(PROJECT)
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.run_id == mlflow_run_id(config.out, store)
    assert tracked.data.params["model/layers"] == "[1, 1, 1, 1]"
    assert 0 <= tracked.data.metrics["val_iou"] <= 1

    bundle = open_bundle(toy_bundle)
    assert [register(bundle, store, config.out) for _ in range(2)] == [1, 1]
    (version,) = client.search_model_versions("name = 'toy'")
    assert version.tags[SHA256_TAG] == bundle.sha256
    assert version.source == bundle.folder.absolute().as_uri()
    assert version.run_id == tracked.info.run_id
