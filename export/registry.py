"""A bundle in the model registry of MLflow: where it is, what it is, and which run it was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.pack import BY_QUALITY
from training.loggers import mlflow_run_id, require_mlflow

if TYPE_CHECKING:
    from pathlib import Path

    from service.contract import Bundle

SHA256_TAG = "robomask.sha256"
"""The tag that says which bundle a registered version is."""


class RegistryError(ValueError):
    """A store of MLflow that cannot be had or does not take a bundle."""


def require_registry(store: str, option: str) -> None:
    """Say that a registry cannot be had, before there is anything to put into it.

    Args:
        store: MLflow's, as for `register`.
        option: By which it was named.

    Raises:
        ValueError: MLflow is not installed, or there is no such store.
    """
    require_mlflow(option)
    from mlflow import MlflowClient  # noqa: PLC0415 - only if wanted

    try:
        MlflowClient(store, store).search_registered_models(max_results=1)
    except Exception as error:  # of MLflow, of its database, of its connection
        raise RegistryError(f"{option}: expected a store of MLflow at {store}, got {error}") from error


def register(bundle: Bundle, store: str, run_folder: Path | None = None) -> int:
    """Register a bundle as a version of the model of its name; one that is registered already stays as it is.

    Args:
        bundle: The bundle; the registry points to its folder and copies nothing.
        store: MLflow's, such as `sqlite:///mlflow.db` or `http://host:5000`.
        run_folder: The run that it was made of, if that was logged there.

    Returns:
        The version in the registry, which counts by itself.

    Raises:
        ValueError: MLflow is not installed, or the store does not take it.
    """
    require_mlflow()
    try:
        return _register(bundle, store, run_folder)
    except Exception as error:  # of MLflow, of its database, of its connection
        raise RegistryError(
            f"{store}: expected to register {bundle.folder}, which is published, in MLflow, got {error}"
        ) from error


def _register(bundle: Bundle, store: str, run_folder: Path | None) -> int:
    from mlflow import MlflowClient  # noqa: PLC0415 - only if wanted
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client, manifest = MlflowClient(store, store), bundle.manifest
    try:
        client.create_registered_model(manifest.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in client.search_model_versions(f"name = '{manifest.name}'"):
        if version.tags.get(SHA256_TAG) == bundle.sha256:
            return int(version.version)
    parent = manifest.lineage.parent
    tags = {
        SHA256_TAG: bundle.sha256,
        "robomask.version": str(manifest.version),
        "robomask.code_revision": str(manifest.lineage.code_revision),
        **({} if parent is None else {"robomask.parent": parent.sha256}),
        **{
            f"robomask.{m.name}.{m.precision}": f"{m.value:.6g}"
            for m in manifest.metrics
            if m.precision and not m.name.endswith(BY_QUALITY)  # a tag has room for one of them
        },
    }
    made = client.create_model_version(
        manifest.name,
        source=bundle.folder.absolute().as_uri(),
        run_id=mlflow_run_id(run_folder, store) if run_folder is not None else None,
        tags=tags,
        description=manifest.lineage.command,
    )
    return int(made.version)
