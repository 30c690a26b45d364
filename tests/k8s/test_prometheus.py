"""A real Prometheus scrapes a real service under light load."""

import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from queries import MONITORING, alerts, dashboard_queries, scaling_queries
from service_kit import Running, golden_frames, png, publish_tiny, serving


class Scraped(NamedTuple):
    """A Prometheus, and the service that it scrapes."""

    client: httpx.Client
    service: Running

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def work(self) -> None:
        """A frame, and a body that is none."""
        captured = {"X-Captured-At": str(time.time()), "X-Deadline-Ms": "10000"}
        assert self.service.segment(png(golden_frames()[0]), headers=captured).status_code == 200
        assert self.service.segment(b"rubbish").status_code == 400


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A service that has been scraped a few times while it worked."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("needs Prometheus: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    publish_tiny(folder / "models")
    with serving(folder / "models") as service:
        target = {"targets": [f"127.0.0.1:{service.port}"], "labels": {"namespace": "robomask", "pod": "one"}}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(MONITORING / "rules.yaml")],
            "scrape_configs": [{"job_name": "robomask", "static_configs": [target]}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [
            binary, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}", "--log.level=error",
        ]  # fmt: skip
        with (
            subprocess.Popen(command, stderr=subprocess.DEVNULL) as process,
            httpx.Client(base_url=f"http://{address}", timeout=30) as client,
        ):
            try:
                yield _worked(Scraped(client, service), process)
            finally:
                process.terminate()


def _worked(scraped: Scraped, process: "subprocess.Popen[bytes]") -> Scraped:
    scrapes: list[dict[str, Any]] = []
    while not scrapes:  # each turn sends two requests and waits for an answer: no sleep is needed
        assert process.poll() is None
        scraped.work()
        try:
            if scraped.client.get("/-/ready").status_code != 200:
                continue
        except httpx.ConnectError:
            continue
        scrapes = scraped.ask('count_over_time(robomask_frames_total{outcome="refused"}[1m]) > 4')
    return scraped


def has_data(result: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(series["value"][1])) for series in result)


def test_the_service_is_up(scraped: Scraped) -> None:
    (series,) = scraped.ask('up{job="robomask"}')
    assert series["value"][1] == "1"


@pytest.mark.parametrize(("where", "query"), [pytest.param(*one, id=one[0]) for one in dashboard_queries()])
def test_every_panel_shows_data(scraped: Scraped, where: str, query: str) -> None:
    assert has_data(scraped.ask(query)), where


@pytest.mark.parametrize(("where", "query"), [pytest.param(*one, id=one[0]) for one in scaling_queries()])
def test_autoscalers_get_numbers(scraped: Scraped, where: str, query: str) -> None:
    assert has_data(scraped.ask(query)), where


def test_every_alert_is_evaluated_without_an_error(scraped: Scraped) -> None:
    states: dict[str, str] = {}
    while set(states.values()) != {"ok"}:
        groups = scraped.client.get("/api/v1/rules").json()["data"]["groups"]
        states = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        assert "err" not in states.values(), json.dumps(groups)
    assert states.keys() == {rule["alert"] for rule in alerts()}


def test_the_metrics_page_follows_prometheus_conventions(scraped: Scraped, tmp_path: Path) -> None:
    page = tmp_path / "metrics"
    page.write_text(scraped.service.client.get("/metrics").text)
    promtool = shutil.which("promtool")
    assert promtool is not None
    with page.open() as content:
        result = subprocess.run(
            [promtool, "check", "metrics"], stdin=content, capture_output=True, text=True, timeout=60, check=False
        )
    assert result.returncode == 0, result.stdout + result.stderr
