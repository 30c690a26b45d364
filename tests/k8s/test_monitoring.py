"""Alerts, dashboard and scaling ask for what the service has, and people are told what to do."""

import re
import shutil
import subprocess

import pytest
import yaml
from manifests_kit import K8S, ROOT, build, metrics, of_kind, routes
from prometheus_client import CollectorRegistry
from queries import MONITORING, alerts, every_query, panels

from service.engine import Provider
from service.telemetry.metrics import METHODS, STAGES, Metrics

TARGET_LABELS = {"job", "instance", "namespace", "pod"}
"""What Prometheus adds to every series."""

SELECTOR = re.compile(r"\b([a-z_:][a-z0-9_:]*)\s*\{([^}]*)\}")
NAME = re.compile(r"\b(robomask_\w+|process_\w+|up)\b")
LABEL = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


def allowed_values() -> dict[str, set[str]]:
    """Labels whose values are a closed set."""
    buckets = {
        sample.labels["le"]
        for collector in vars(Metrics(CollectorRegistry())).values()
        if hasattr(collector, "collect")
        for family in collector.collect()
        for sample in family.samples
        if "le" in sample.labels
    }
    return {
        "stage": set(STAGES),
        "method": set(METHODS),
        "route": set(routes()),
        "provider": set(Provider.__args__),  # type: ignore[attr-defined]
        "le": buckets,
        "outcome": {"ok", "refused", "shed", "superseded", "late", "failed", "cancelled"},
        "job": {"robomask"},
        "namespace": {"robomask"},
    }


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    return subprocess.run([found, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("where", "query"), [pytest.param(*one, id=one[0]) for one in every_query()])
def test_every_query_asks_for_what_the_service_has(where: str, query: str) -> None:
    known = {**metrics(), "up": set[str]()}
    named = set(NAME.findall(query))
    assert named, where
    assert named <= known.keys(), f"the service has no {named - known.keys()}"
    assert {name for name, _ in SELECTOR.findall(query)} <= known.keys()
    values = allowed_values()
    for name, labels in SELECTOR.findall(query):
        for label, operator, value in LABEL.findall(labels):
            assert label in known[name] | TARGET_LABELS, f"{name} has no label {label}"
            alternatives = value.split("|") if operator in {"=~", "!~"} else [value]
            if value not in {"", ".*"} and label in values:
                assert set(alternatives) <= values[label], f"{label} is never {value}"
    labels_known = TARGET_LABELS.union(*(known[name] for name in named))
    for group in GROUPING.findall(query):
        assert {label.strip() for label in group.split(",")} <= labels_known


def test_the_operators_rules_are_those_of_prometheus() -> None:
    (rule,) = of_kind(build("cpu"), "PrometheusRule")
    plain = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    assert rule["spec"] == plain, "run k8s/render-rules.sh"


def test_every_alert_has_a_severity_and_a_section_in_the_runbook() -> None:
    runbook = (K8S / "RUNBOOK.md").read_text()
    titles = re.findall(r"^## (\w+)$", runbook, flags=re.MULTILINE)
    assert titles == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (ROOT / path).is_file()
        assert anchor == rule["alert"].lower()
        section = runbook.split(f"## {rule['alert']}\n")[1]
        assert section.startswith(rule["labels"]["severity"])


def test_every_alert_has_a_unit_test() -> None:
    tests = (MONITORING / "rules_test.yaml").read_text()
    for rule in alerts():
        assert re.search(rf"\b{rule['alert']}\b", tests), rule["alert"]


def test_every_panel_says_what_it_shows_and_stands_in_its_own_place() -> None:
    places: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        box = panel["gridPos"]
        cells = {(box["x"] + dx, box["y"] + dy) for dx in range(box["w"]) for dy in range(box["h"])}
        assert not cells & places, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        places |= cells


def test_the_dashboard_is_found_by_grafanas_sidecar() -> None:
    (config,) = [one for one in of_kind(build("gpu"), "ConfigMap") if one["metadata"]["name"] == "robomask-dashboard"]
    assert config["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert config["data"]["robomask.json"] == (MONITORING / "dashboard.json").read_text()


def test_the_autoscaler_asks_for_what_the_adapter_serves() -> None:
    adapter = yaml.safe_load((K8S / "components/hpa/prometheus-adapter.yaml").read_text())
    served = {rule["name"]["as"] for rule in adapter["rules"]["custom"]}
    for name in ("cpu", "gpu"):
        (scaler,) = of_kind(build(name), "HorizontalPodAutoscaler")
        assert {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]} == served


def test_promtool_accepts_the_rules() -> None:
    result = promtool("check", "rules", str(MONITORING / "rules.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_alerts_unit_tests_pass() -> None:
    result = promtool("test", "rules", str(MONITORING / "rules_test.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr


def test_one_machine_mounts_files_that_exist_and_scrapes_the_port_of_the_service() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), volume
    assert "127.0.0.1:8000:8000" in compose["services"]["robomask"]["ports"]
    scrape = yaml.safe_load((K8S / "compose/prometheus.yaml").read_text())
    (job,) = scrape["scrape_configs"]
    assert job["job_name"] == "robomask"
    assert job["static_configs"] == [{"targets": ["robomask:8000"]}]
    assert job.get("metrics_path", "/metrics") in routes()
    source = yaml.safe_load((K8S / "compose/grafana/datasources/prometheus.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
