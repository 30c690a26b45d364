"""The manifests: valid by Kubernetes' own schemas, safe, and true to the service."""

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from manifests_kit import (
    BUILDS,
    K8S,
    ROOT,
    Object,
    build,
    containers,
    of_kind,
    pod_specs,
    routes,
    secrets,
    settings_of,
    variables,
)
from pydantic_settings import CliApp

from benchmarks import rolling
from retrain.config import RetrainConfig
from robomask import COMMANDS
from service.oip.schema import read_schema
from service.settings import Settings
from training.commands.pretrain import KINDS
from training.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable

SERVING = [name for name in BUILDS if not name.startswith("training")]
OWN_DEPLOYMENT = [name for name in SERVING if name != "kserve"]

CUSTOM = {
    "monitoring.coreos.com/v1", "keda.sh/v1alpha1", "gateway.networking.k8s.io/v1", "serving.kserve.io/v1alpha1",
    "serving.kserve.io/v1beta1", "trainer.kubeflow.org/v1alpha1", "kubeflow.org/v1",
}  # fmt: skip
"""Resource types of operators, which Kubernetes' own schemas do not know."""


def quantity(value: str) -> float:
    """A Kubernetes quantity as a number."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(value)).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}[unit]


@pytest.mark.parametrize("name", BUILDS)
def test_every_build_passes_strict_validation(name: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    for one in build(name):
        if one["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_strict_validation_finds_a_misspelt_field() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate")
    (deployment,) = of_kind(build("cpu"), "Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", BUILDS)
def test_everything_has_the_one_namespace(name: str) -> None:
    for one in build(name):
        assert one["metadata"].get("namespace", "robomask") == "robomask"
        assert one["kind"] == "Namespace" or "namespace" in one["metadata"]


@pytest.mark.parametrize("name", BUILDS)
def test_pods_keep_to_the_restricted_standard_and_more(name: str) -> None:
    specs = list(pod_specs(build(name)))
    assert specs
    for owner, spec in specs:
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True, owner
        assert pod["runAsUser"] == 10001, owner
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert spec["automountServiceAccountToken"] is False, owner
        assert spec["enableServiceLinks"] is False, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), owner
        for container in containers(spec):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, owner
            assert own["readOnlyRootFilesystem"] is True, owner
            assert own["capabilities"] == {"drop": ["ALL"]}, owner
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), owner
            assert "memory" in container["resources"]["limits"], owner


@pytest.mark.parametrize("name", BUILDS)
def test_images_are_named_with_a_tag(name: str) -> None:
    for owner, spec in pod_specs(build(name)):
        for container in containers(spec):
            assert re.fullmatch(r"registry\.example/robomask:[0-9.]+-(cpu|gpu|train)", container["image"]), owner


@pytest.mark.parametrize("name", BUILDS)
def test_volumes_that_are_mounted_exist(name: str) -> None:
    objects = build(name)
    claims = {one["metadata"]["name"] for one in of_kind(objects, "PersistentVolumeClaim")}
    for owner, spec in pod_specs(objects):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in {None, *claims}, owner
        mounted = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", [])}
        assert mounted == volumes.keys(), owner
    for service in of_kind(objects, "InferenceService"):
        assert service["spec"]["predictor"]["model"]["storageUri"].removeprefix("pvc://").rstrip("/") in claims


# --- Settings.


def test_the_file_of_settings_has_every_setting_with_what_it_does() -> None:
    lines = (K8S / "shared/robomask.env").read_text().splitlines()
    described: dict[str, str] = {}
    for before, line in itertools.pairwise(lines):
        if found := re.match(r"#?(ROBOMASK_\w+)=", line):
            described[found[1]] = before.removeprefix("# ")
    for name, description in variables().items():
        assert described.get(name) == description, f"{name}: run k8s/render_settings.py"
    assert set(described) == set(variables()), "run k8s/render_settings.py"


@pytest.mark.parametrize("name", SERVING)
def test_the_settings_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in settings_of(build(name)).items():
        monkeypatch.setenv(variable, value)
    settings = Settings(_cli_parse_args=False)
    assert settings.host == "0.0.0.0"  # noqa: S104 - a pod is reached by its address
    assert settings.log_format == "json"


@pytest.mark.parametrize("name", SERVING)
def test_what_the_service_writes_goes_to_volumes(name: str) -> None:
    objects = build(name)
    for owner, spec in pod_specs(objects):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        (container,) = spec["containers"]
        writable = [m["mountPath"] for m in container["volumeMounts"] if "emptyDir" in volumes[m["name"]]]
        for variable in ("ROBOMASK_CACHE", "ROBOMASK_ENGINE_CACHE"):
            assert any(settings_of(objects)[variable].startswith(f"{path}/") for path in writable), owner


def test_the_benchmark_of_rolling_restarts_takes_its_times_from_the_manifests() -> None:
    (deployment,) = of_kind(build("cpu"), "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["startupProbe"]["periodSeconds"] == rolling.STARTUP_PERIOD_S
    assert container["readinessProbe"]["periodSeconds"] == rolling.READY_PERIOD_S
    assert container["readinessProbe"]["failureThreshold"] == rolling.READY_FAILURES
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == rolling.PRE_STOP_S
    assert spec["terminationGracePeriodSeconds"] == rolling.GRACE_S


@pytest.mark.parametrize("name", SERVING)
def test_secrets_come_from_a_secret_and_from_nowhere_else(name: str) -> None:
    for owner, spec in pod_specs(build(name)):
        for container in spec["containers"]:
            own = {entry["name"]: entry for entry in container.get("env", [])}
            for secret in secrets():
                reference = own[f"ROBOMASK_{secret.upper()}"]["valueFrom"]["secretKeyRef"]
                assert reference["optional"] is True, owner


def test_whatever_looks_like_a_setting_is_one() -> None:
    known = {*variables(), *(f"ROBOMASK_{name.upper()}" for name in secrets())}
    files = [*(f for f in K8S.rglob("*") if f.is_file()), ROOT / "Dockerfile", ROOT / "compose.yaml"]
    for file in files:
        found = set(re.findall(r"\bROBOMASK_[A-Z][A-Z_]*[A-Z]\b", file.read_text()))
        assert found <= known, f"{file.name}: the service has no {found - known}"


@pytest.mark.parametrize("name", SERVING)
def test_memory_has_room_for_what_requests_may_hold(name: str) -> None:
    objects = build(name)
    inflight = int(settings_of(objects)["ROBOMASK_MAX_INFLIGHT_BYTES"])
    for owner, spec in pod_specs(objects):
        limit = spec["containers"][0].get("resources", {}).get("limits", {}).get("memory")
        if limit is not None:
            assert quantity(limit) >= 2 * inflight + 300 * 2**20, owner


# --- Ports and paths.


@pytest.mark.parametrize("name", SERVING)
def test_probes_ask_routes_that_exist_on_the_port_that_is_open(name: str) -> None:
    objects = build(name)
    for owner, spec in pod_specs(objects):
        (container,) = spec["containers"]
        port, rpc = container["ports"]
        assert str(port["containerPort"]) == settings_of(objects)["ROBOMASK_PORT"], owner
        assert (rpc["name"], str(rpc["containerPort"])) == ("grpc", settings_of(objects)["ROBOMASK_GRPC_PORT"]), owner
        for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            asked = container[probe]["httpGet"]
            assert asked["path"] == path, owner
            assert path in routes(), owner
            assert asked["port"] in {port["name"], port["containerPort"]}, owner


@pytest.mark.parametrize("name", OWN_DEPLOYMENT)
def test_service_policies_and_monitor_lead_to_the_pods(name: str) -> None:
    objects = build(name)
    (deployment,) = of_kind(objects, "Deployment")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    port, rpc = template["spec"]["containers"][0]["ports"]
    (service,) = of_kind(objects, "Service")
    assert service["spec"]["selector"].items() <= labels
    open_port, open_rpc = service["spec"]["ports"]
    assert (open_port["targetPort"], open_rpc["targetPort"]) == (port["name"], rpc["name"])
    assert (open_port["port"], open_rpc["port"]) == (port["containerPort"], rpc["containerPort"])
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels
    policy, *others = of_kind(objects, "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert policy["spec"]["egress"] == []
    assert [{p["port"] for p in rule["ports"]} for rule in policy["spec"]["ingress"]] == [{"http", "grpc"}, {"http"}]
    for other in others:
        assert other["spec"]["podSelector"] == policy["spec"]["podSelector"]
    for monitor in of_kind(objects, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == open_port["name"]
        assert endpoint["path"] in routes()
    for spread in template["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"].items() <= labels


def test_routes_from_outside_are_the_services_own_and_not_the_inner_ones() -> None:
    objects = build("cpu from a volume, reached from outside")
    (service,) = of_kind(objects, "Service")
    (ingress,) = of_kind(objects, "Ingress")
    (route,) = of_kind(objects, "HTTPRoute")
    inward = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    for path in inward:
        backend = path["backend"]["service"]
        assert backend["name"] == service["metadata"]["name"]
        assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    for rule in route["spec"]["rules"]:
        for backend in rule["backendRefs"]:
            assert backend["name"] == service["metadata"]["name"]
            assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
    matches = [match["path"]["value"] for rule in route["spec"]["rules"] for match in rule["matches"]]
    (calls,) = of_kind(objects, "GRPCRoute")
    (rule,) = calls["spec"]["rules"]
    rpc = read_schema("open_inference.proto")
    asked = {(match["method"]["service"], match["method"]["method"]) for match in rule["matches"]}
    assert asked <= {(rpc.service, method.name) for method in rpc.methods}
    assert not {method for _, method in asked if "Repository" in method or "Statistics" in method}
    assert [backend["port"] for backend in rule["backendRefs"]] == [int(settings_of(objects)["ROBOMASK_GRPC_PORT"])]
    opened = {path["path"] for path in inward} | set(matches)
    for path in opened:
        assert any(known == path or known.startswith(f"{path}/") for known in routes()), path
    assert not opened & {"/", "/metrics", "/models"}
    size = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) * 2**20 == int(settings_of(objects)["ROBOMASK_MAX_BODY_BYTES"])


def test_kserve_asks_for_the_model_by_its_name() -> None:
    (service,) = of_kind(build("kserve"), "InferenceService")
    assert (ROOT / "models" / service["metadata"]["name"]).is_dir()


# --- Life, devices, scale.


@pytest.mark.parametrize("name", SERVING)
def test_the_grace_period_holds_the_sleep_the_drain_and_the_end(name: str) -> None:
    objects = build(name)
    drain = int(settings_of(objects)["ROBOMASK_SHUTDOWN_S"])
    for owner, spec in pod_specs(objects):
        sleep = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] >= sleep + drain + 10, owner


def test_a_roll_out_needs_no_gpu_to_spare() -> None:
    objects = build("gpu")
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    spec = deployment["spec"]["template"]["spec"]
    resources = spec["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert settings_of(objects)["ROBOMASK_PROVIDER"] == "cuda"


@pytest.mark.parametrize("name", OWN_DEPLOYMENT)
def test_an_autoscaler_alone_says_how_many(name: str) -> None:
    objects = build(name)
    (deployment,) = of_kind(objects, "Deployment")
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    assert "replicas" not in deployment["spec"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


# --- Commands.


def run_config(arguments: list[str]) -> object:
    """What a `robomask` command makes of its arguments."""
    command, *rest = arguments
    assert command in COMMANDS
    parsers: dict[str, Callable[[list[str]], object]] = {
        "train": lambda args: CliApp.run(TrainConfig, cli_args=args),
        "retrain": lambda args: CliApp.run(RetrainConfig, cli_args=args),
        "pretrain": lambda args: CliApp.run(KINDS[args[0]].config, cli_args=args[1:]),
    }
    return parsers[command](rest)


def commands(container: Object) -> list[str]:
    """The arguments after `robomask`."""
    arguments: list[str] = container["args"]
    return arguments[arguments.index("robomask") + 1 :] if "robomask" in arguments else arguments


@pytest.mark.parametrize("name", [name for name in BUILDS if name.startswith("training")])
def test_jobs_call_commands_with_flags_that_exist(name: str) -> None:
    seen = 0
    for owner, spec in pod_specs(build(name)):
        mounts = {mount["mountPath"] for container in containers(spec) for mount in container["volumeMounts"]}
        for container in containers(spec):
            arguments = commands(container)
            assert run_config(arguments), owner
            for path in re.findall(r"(?<![\w/])(/\w+)/", " ".join(arguments)):
                assert path in mounts, owner
            seen += 1
    assert seen == 2


@pytest.mark.parametrize("name", ["training", "training: finetuning on several nodes"])
def test_nodes_are_as_many_for_kubernetes_as_for_torchrun(name: str) -> None:
    (job,) = of_kind(build(name), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    nodes = str(job["spec"]["completions"])
    assert f"--nnodes={nodes}" in container["args"]
    assert f"--machine.nodes={nodes}" in container["args"]
    (service,) = of_kind(build(name), "Service")
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    endpoint = f"{job['metadata']['name']}-0.{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert f"--rdzv-endpoint={endpoint}" in container["args"]
