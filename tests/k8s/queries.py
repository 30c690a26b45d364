"""Every PromQL expression that the manifests hold, with where it stands."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from manifests_kit import K8S

MONITORING = K8S / "components/monitoring"


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    """The alerting rules."""
    content = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def dashboard_queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']!r} {target['refId']}", filled(target["expr"])


def scaling_queries() -> Iterator[tuple[str, str]]:
    adapter = yaml.safe_load((K8S / "components/hpa/prometheus-adapter.yaml").read_text())
    for rule in adapter["rules"]["custom"]:
        yield f"adapter {rule['name']['as']}", filled(rule["metricsQuery"])
        yield f"adapter {rule['name']['as']} series", rule["seriesQuery"]
    scaled = yaml.safe_load((K8S / "components/keda/scaled-object.yaml").read_text())
    for trigger in scaled["spec"]["triggers"]:
        yield f"KEDA {trigger['name']}", trigger["metadata"]["query"]


def every_query() -> Iterator[tuple[str, str]]:
    yield from dashboard_queries()
    yield from scaling_queries()
    for rule in alerts():
        yield f"alert {rule['alert']}", rule["expr"]
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']!r}", annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert found is not None
            yield f"variable {variable['name']!r}", found[1]


def filled(expression: str) -> str:
    """An expression with what Grafana and the adapter put into it."""
    return (
        expression.replace("$instance", ".*")
        .replace("$__rate_interval", "1m")
        .replace("<<.LabelMatchers>>", 'namespace="robomask"')
        .replace("<<.GroupBy>>", "pod")
    )
