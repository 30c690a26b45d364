"""The version in service, which a new model is held against: a bundle, a repository's newest, or what a URL serves."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from export.ancestry import Ancestry
from export.ancestry import of_bundle as ancestry_of
from export.evaluate import EvaluationError, bundle_masks, service_masks
from service.client.admin import ModelAdmin, serving_in
from service.client.errors import ClientError
from service.contract import MANIFEST, Ancestor, BundleInvalid, open_bundle, versions

if TYPE_CHECKING:
    from export.evaluate import Masks
    from service.contract import Bundle, Lineage, Precision


class Predecessor(NamedTuple):
    """What is in service.

    Attributes:
        identity: Its name, version and hash.
        precision: Which of its models answers.
        masks: Its answers: frames uint8 [N,64,64,3] -> masks bool [N,64,64].
        lineage: What it was made of, where that is known.
        ancestry: What it had started from.
    """

    identity: Ancestor
    precision: Precision
    masks: Masks
    lineage: Lineage | None
    ancestry: Ancestry = Ancestry()


def find_predecessor(place: str, name: str) -> Predecessor | None:
    """What is in service at a place.

    Args:
        place: A bundle's folder, a model repository, or the address of a service (`http://host:port`).
        name: The model, for a repository.

    Returns:
        The predecessor; None for a repository that has no version of the model yet.

    Raises:
        EvaluationError: There is no such place, or a service that does not answer as one.
        BundleInvalid: The bundle, or every version in the repository, is not what it says.
    """
    if place.startswith(("http://", "https://")):
        return _of_service(place)
    folder = Path(place)
    if (folder / MANIFEST).is_file():
        return of_bundle(open_bundle(folder))
    if not folder.is_dir():
        raise EvaluationError(
            f"{place}: expected a bundle (with {MANIFEST}), a model repository or an http address to compare with, "
            "found no such folder"
        )
    newest = newest_bundle(folder, name)
    return None if newest is None else of_bundle(newest)


def newest_bundle(repository: Path, name: str) -> Bundle | None:
    """The newest version of a model that a service would take, or None if there is no version at all.

    Raises:
        BundleInvalid: There are versions, and none of them is what it says.
    """
    refused: list[str] = []
    for version in reversed(versions(repository, name)):
        try:
            return open_bundle(repository / name / str(version))
        except BundleInvalid as error:
            refused.append(str(error))
    if refused:
        raise BundleInvalid(f"{repository / name}: expected a valid version, found none: {'; '.join(refused)}")
    return None


def of_bundle(bundle: Bundle) -> Predecessor:
    """A bundle that has been opened, as what is in service."""
    manifest = bundle.manifest
    identity = Ancestor(kind="bundle", name=manifest.name, version=manifest.version, sha256=bundle.sha256)
    return Predecessor(
        identity,
        manifest.default_precision,
        lambda frames: bundle_masks(bundle.folder, frames),
        manifest.lineage,
        ancestry_of(bundle.folder, manifest.lineage),
    )


def _of_service(address: str) -> Predecessor:
    try:
        with ModelAdmin(address) as admin:
            listing = admin.listing()
    except ClientError as error:
        raise EvaluationError(str(error)) from error
    serving = serving_in(listing)
    if serving is None:
        raise EvaluationError(f"{address}: expected a model in service, found none: wait until it is ready")
    identity = Ancestor(kind="bundle", name=listing["name"], version=serving["version"], sha256=serving["sha256"])
    masks = functools.partial(service_masks, address, sha256=identity.sha256)
    return Predecessor(identity, serving["precision"], masks, None)
