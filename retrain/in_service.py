"""Which version is in service, as a bundle that can be trained on and compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.pack import DEFAULT_NAME
from export.predecessor import newest_bundle
from retrain.journal import RetrainError
from service.client.admin import ModelAdmin, serving_in
from service.contract import MANIFEST, BundleInvalid, model_names, open_bundle, read_manifest, versions

if TYPE_CHECKING:
    from pathlib import Path

    from retrain.config import RetrainConfig
    from service.contract import Bundle


def in_service(config: RetrainConfig) -> Bundle | None:
    """The version that the service serves, or without a service the newest; None if there is no version yet.

    Raises:
        RetrainError: Several models to choose from, or a service that serves what is not in the repository.
        BundleInvalid: No version is what it says.
        ClientError: The service cannot be asked.
    """
    if config.url is None:
        return newest_bundle(config.models, model_name(config))
    with ModelAdmin(config.url) as admin:
        listing = admin.listing()
    if config.name not in {None, listing["name"]}:
        raise RetrainError(f"{config.url}: expected a service of {config.name}, found one of {listing['name']}")
    serving = serving_in(listing)
    if serving is None:
        raise RetrainError(f"{config.url}: expected a model in service, found none: wait until it is ready")
    folder = config.models / listing["name"] / str(serving["version"])
    bundle = open_bundle(folder) if (folder / MANIFEST).is_file() else None
    if bundle is None or bundle.sha256 != serving["sha256"]:
        raise RetrainError(
            f"{folder}: expected the bundle {serving['sha256']}, which {config.url} serves, found "
            f"{bundle.sha256 if bundle else 'none'}: name with --models the repository that it serves"
        )
    return bundle


def model_name(config: RetrainConfig) -> str:
    """The model's name.

    Raises:
        RetrainError: Several models to choose from.
    """
    names = model_names(config.models)
    if config.name is None and len(names) > 1:
        raise RetrainError(f"{config.models}: expected one model, found {', '.join(names)}: say which with --name")
    return config.name or (names[0] if names else DEFAULT_NAME)


def published_of(repository: Path, name: str, run_sha256: str) -> Bundle | None:
    """The version that was made of a run, by the hash of its record; None if none was.

    Others are not looked into: whether they are whole is for whoever wants to serve them.

    Raises:
        BundleInvalid: It is not what it says.
    """
    for version in reversed(versions(repository, name)):
        folder = repository / name / str(version)
        try:
            manifest = read_manifest((folder / MANIFEST).read_bytes(), str(folder))
        except (BundleInvalid, OSError):  # of another schema, damaged, or none: no version that this run has become
            continue
        made_of = manifest.lineage.run
        if made_of is not None and made_of.sha256 == run_sha256 and manifest.version == version:
            return open_bundle(folder)
    return None
