"""Models change beside live traffic: nothing fails, every answer names who made it, and what is gone is gone."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_kit import (
    ADMIN,
    BIAS,
    TOKEN,
    WEIGHTS,
    Running,
    golden_frames,
    png,
    publish_other,
    publish_tiny,
    red_probability,
    serving,
)

FRAME = png(golden_frames()[0])


def area(running: Running, **options: Any) -> int:
    found: int = running.segment(FRAME, **options).json()["frames"][0]["area"]
    return found


def expected_area(bias: float) -> int:
    logits = golden_frames()[0].astype(np.float32) / 255 @ WEIGHTS + bias
    return int((logits >= 0).sum())


def post(running: Running, path: str, **options: Any) -> httpx.Response:
    return running.client.post(path, headers=ADMIN, **options)


def states(running: Running) -> dict[int, str]:
    return {version["version"]: version["state"] for version in running.client.get("/models").json()["versions"]}


def metric(running: Running, name: str, /, **labels: str) -> float:
    for family in text_string_to_metric_families(running.client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def until(running: Running, true: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Ask again until something is so; the test's own time limit ends it. Frames are sent meanwhile."""
    while not true(listing := running.client.get("/models").json()):
        running.segment(FRAME)
    return dict(listing)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A repository with two versions that differ."""
    publish_tiny(tmp_path)
    publish_other(tmp_path)
    return tmp_path


def test_a_version_is_activated_and_rolled_back_and_every_answer_names_its_own(two: Path) -> None:
    with serving(two, version=1, admin_token=TOKEN) as running:
        assert area(running) == expected_area(BIAS)
        assert post(running, "/models/2/activate").status_code == 200
        response = running.segment(FRAME)
        assert response.headers["X-Model-Version"] == "2"
        assert response.json()["model"]["version"] == 2
        assert area(running) == expected_area(BIAS + 2)
        assert states(running) == {1: "previous", 2: "serving"}
        assert area(running, params={"version": 1}) == expected_area(BIAS)  # open, so it may be asked for
        listing = post(running, "/models/rollback").json()
        assert [event["result"] for event in listing["events"]] == ["rolled-back", "activated"]
        assert running.client.get("/readyz").json()["model"]["version"] == 1
        assert area(running) == expected_area(BIAS)
        assert metric(running, "robomask_swaps_total", result="activated") == 1
        assert metric(running, "robomask_model_info", name="tiny", version="1", precision="fp32", provider="cpu") == 1
        assert metric(running, "robomask_model_info", name="tiny", version="2", precision="fp32", provider="cpu") == 0
        assert metric(running, "robomask_model_frames_total", version="2") == 2


def test_under_load_no_answer_fails_and_none_is_of_a_version_other_than_it_says(two: Path) -> None:
    expected = {"1": expected_area(BIAS), "2": expected_area(BIAS + 2)}
    with serving(two, version=1, admin_token=TOKEN, keep_previous=False) as running:
        over = threading.Event()
        seen: list[tuple[int, str, int]] = []

        def client() -> None:
            with httpx.Client(base_url=str(running.client.base_url), timeout=30) as own:
                while not over.is_set():
                    answer = own.post("/segment", content=FRAME, headers={"Content-Type": "image/png"})
                    found = answer.json()["frames"][0]["area"] if answer.status_code == 200 else 0
                    seen.append((answer.status_code, answer.headers.get("X-Model-Version", ""), found))

        clients = [threading.Thread(target=client) for _ in range(4)]
        for thread in clients:
            thread.start()
        for turn in range(12):
            assert post(running, f"/models/{2 - turn % 2}/activate").status_code == 200
        over.set()
        for thread in clients:
            thread.join()
        assert {status for status, _, _ in seen} == {200}
        assert {version for _, version, _ in seen} == {"1", "2"}
        assert all(found == expected[version] for _, version, found in seen)


def test_a_model_that_is_dropped_is_gone_even_if_connections_stay_open(two: Path) -> None:
    with serving(two, version=1, admin_token=TOKEN, keep_previous=False) as running:
        running.segment(FRAME)
        assert running.models.lineup.serving is not None
        old = weakref.ref(running.models.lineup.serving.engine)
        assert post(running, "/models/2/activate").status_code == 200
        assert old() is None
        assert states(running) == {1: "available", 2: "serving"}
        assert post(running, "/models/rollback").status_code == 200  # opened anew
        assert area(running) == expected_area(BIAS)


def test_without_a_token_changes_are_closed_and_with_one_a_wrong_one_is_refused(two: Path) -> None:
    with serving(two, version=1) as running:
        closed = post(running, "/models/2/activate")
        assert closed.status_code == 403
        assert "ROBOMASK_ADMIN_TOKEN" in closed.json()["detail"]
    with serving(two, version=1, admin_token=TOKEN) as running:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": f"Basic {TOKEN}"}):
            for path in ("/models/2/activate", "/models/rollback", "/models/shadow", "/models/canary"):
                refused = running.client.post(path, headers=headers)
                assert refused.status_code == 401
                assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert states(running) == {1: "serving", 2: "available"}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/models/7/activate", None, 404, "which has 1, 2, got 7"),
        ("/models/zero/activate", None, 422, "whole number"),
        ("/models/0/activate", None, 422, "whole number"),
        ("/models/rollback", None, 409, "first since the service started"),
        ("/models/shadow", {"version": 1}, 409, "itself"),
        ("/models/shadow", {"version": 2, "share": 0}, 409, "there is none"),
        ("/models/shadow", {"version": 2, "share": 1.5}, 422, "share"),
        ("/models/canary", {}, 422, "version"),
        ("/models/canary", {"version": 2, "promote_if": {"miou": 1}}, 422, "miou"),
        ("/models/canary", "rubbish", 422, "body"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(
    two: Path, path: str, body: Any, status: int, words: str
) -> None:
    with serving(two, version=1, admin_token=TOKEN) as running:
        response = post(running, path, content=json.dumps(body).encode() if body is not None else b"")
        assert response.status_code == status, response.text
        assert words in response.json()["detail"]
        assert response.headers["Content-Type"] == "application/problem+json"
        assert states(running)[1] == "serving"


def test_polling_serves_a_newer_version_and_leaves_alone_what_was_rolled_back_or_is_broken(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path, poll_s=0.02, admin_token=TOKEN, vet_s=0) as running:
        publish_other(tmp_path)
        until(running, lambda now: now["versions"][0]["state"] == "serving")
        assert post(running, "/models/rollback").status_code == 200
        half = tmp_path / "tiny" / "3"
        half.mkdir()
        until(running, lambda now: now["versions"][0].get("reason"))
        assert states(running) == {3: "refused", 2: "previous", 1: "serving"}
        whole = tmp_path / "elsewhere"
        publish_tiny(whole, version=3)
        for file in sorted((whole / "tiny" / "3").iterdir()):  # as a plain copy writes it, one file after the other
            (half / file.name).write_bytes(file.read_bytes())
            running.segment(FRAME)
        until(running, lambda now: now["versions"][0]["state"] == "serving")


def events(running: Running) -> list[tuple[str, int | None, str]]:
    return [
        (event["action"], event.get("version"), event["result"])
        for event in running.client.get("/models").json()["events"]
    ]


def test_polling_leaves_alone_what_somebody_went_back_from_or_whose_trial_was_ended(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    publish_other(tmp_path)
    options: dict[str, Any] = {"poll_s": 0.02, "admin_token": TOKEN, "vet_s": 0}
    with serving(tmp_path, **options) as running:
        assert post(running, "/models/1/activate").status_code == 200
        publish_tiny(tmp_path)
        until(running, lambda now: now["versions"][0]["state"] == "serving")  # it has been looked, and 3 found
        assert post(running, "/models/1/activate").status_code == 200
        assert post(running, "/models/2/activate").status_code == 200  # it may come back by somebody's hand
        assert states(running)[2] == "serving"
        assert [event for event in events(running) if event[1] != 3] == [
            ("activate", 2, "activated"),
            ("activate", 1, "activated"),
            ("activate", 1, "activated"),
        ]
    with serving(tmp_path, version=None, promote_if="frames=100000", **options) as running:
        publish_tiny(tmp_path)
        until(running, lambda now: now.get("trial"))
        assert post(running, "/models/shadow", json={"version": 4, "share": 0}).status_code == 200
        publish_tiny(tmp_path)
        until(running, lambda now: now.get("trial"))
        assert post(running, "/models/shadow", json={"version": 5, "share": 0}).status_code == 200
        assert [event[1] for event in events(running) if event[0] == "shadow"] == [5, 4]


def test_what_was_turned_away_is_remembered_over_a_restart_by_the_audit_log(two: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"audit_log": tmp_path / "audit.jsonl", "admin_token": TOKEN}
    with serving(two, **options) as running:
        assert states(running) == {1: "available", 2: "serving"}
        assert post(running, "/models/1/activate").status_code == 200
    with serving(two, **options) as running:
        assert states(running) == {1: "serving", 2: "available"}
        assert post(running, "/models/2/activate").status_code == 200
    with (tmp_path / "audit.jsonl").open("a") as file:
        file.write('{"at": "cut')  # as a process leaves it that is killed while it writes
    with serving(two, **options) as running:
        assert states(running)[2] == "serving"
        assert post(running, "/models/1/activate").status_code == 200
    publish_tiny(tmp_path / "others", name="other")
    publish_tiny(tmp_path / "others", name="other")
    with serving(tmp_path / "others", **options) as running:
        assert states(running) == {1: "available", 2: "serving"}
        assert post(running, "/models/1/activate").status_code == 200
    with (tmp_path / "audit.jsonl").open("r+") as file:
        file.write(file.read().splitlines()[-1].join(["\n"] * 2000))  # what the other model notes in a year
    with serving(two, **options) as running:
        assert states(running) == {1: "serving", 2: "available"}


def test_a_version_that_a_gate_puts_back_stays_beside_polling(two: Path) -> None:
    with serving(two, poll_s=0.02, vet_s=0, admin_token=TOKEN) as running:
        body = {"version": 1, "promote_if": {"frames": 3}}
        assert post(running, "/models/shadow", json=body).status_code == 200
        until(running, lambda now: now["versions"][1]["state"] == "serving")
        publish_tiny(two)
        until(running, lambda now: now["versions"][0]["state"] == "serving")
        assert [event[:2] for event in events(running)] == [
            ("activate", 3),
            ("activate", 1),
            ("gate", 1),
            ("shadow", 1),
        ]


def test_what_serves_instead_of_a_trial_ends_it_and_what_is_unloaded_is_named(two: Path) -> None:
    publish_tiny(two)
    with serving(two, version=1, admin_token=TOKEN) as running:
        assert post(running, "/models/shadow", json={"version": 3}).status_code == 200
        assert post(running, "/models/2/activate").status_code == 200
        assert events(running)[:2] == [("activate", 2, "activated"), ("end-trial", 3, "ended")]
        assert metric(running, "robomask_shadow_drift", measure="area") == 0
        assert post(running, "/v2/repository/models/tiny/unload").status_code == 200
        assert events(running)[0] == ("unload", 1, "unloaded")


def test_the_example_is_there_when_the_folder_of_the_model_is_not(two: Path) -> None:
    with serving(two) as running:
        before = running.client.get("/example.png")
        shutil.rmtree(two / "tiny" / "2")
        assert running.client.get("/example.png").content == before.content
        assert before.status_code == 200


def test_a_version_that_is_fixed_stays_though_polling_is_on(two: Path) -> None:
    with serving(two, version=1, poll_s=0.02, vet_s=0) as running:
        for _ in range(50):
            assert area(running) == expected_area(BIAS)
        assert events(running) == []


def test_a_token_from_a_file_may_end_in_a_new_line(two: Path) -> None:
    with serving(two, version=1, admin_token=TOKEN + "\n") as running:
        assert post(running, "/models/2/activate").status_code == 200


def test_a_signal_makes_it_look_for_a_newer_version(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    command = [sys.executable, "-m", "service", "--models", str(tmp_path), "--port", "0", "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        assert any("is ready in" in line for line in lines)
        publish_other(tmp_path)
        process.send_signal(signal.SIGHUP)
        (note,) = (json.loads(line) for line in lines if '"result": "activated"' in line and not process.terminate())
        assert (note["version"], note["by"]) == (2, "SIGHUP")
        assert process.wait(60) == 0


def test_a_shadow_compares_off_the_way_to_the_answer_and_ends_with_share_zero(two: Path) -> None:
    with serving(two, version=1, admin_token=TOKEN) as running:
        assert post(running, "/models/shadow", json={"version": 2}).status_code == 200
        listing = until(running, lambda now: now["trial"]["compared"] >= 5)
        assert states(running) == {1: "serving", 2: "shadow"}
        probability = red_probability(golden_frames()[:1])[0]
        iou = (probability >= 0.5).sum() / expected_area(BIAS + 2)
        assert listing["trial"]["mean_iou"] == pytest.approx(iou, abs=1e-4)
        assert listing["trial"]["area_drift"] > 0
        assert listing["trial"]["latency_ratio"] > 0
        assert metric(running, "robomask_shadow_iou_count") >= 5
        assert metric(running, "robomask_model_frames_total", version="2") == 0
        ended = post(running, "/models/shadow", json={"version": 2, "share": 0}).json()
        assert "trial" not in ended
        assert states(running) == {1: "serving", 2: "available"}


def test_a_canary_answers_its_share_of_streams_and_each_stream_sees_one_model(two: Path) -> None:
    with serving(two, version=1, admin_token=TOKEN) as running:
        assert post(running, "/models/canary", json={"version": 2, "share": 0.5}).status_code == 200
        seen: dict[str, set[str]] = {}
        for turn in range(96):
            robot = f"robot-{turn % 32}"
            answer = running.segment(FRAME, headers={"X-Stream-Id": robot})
            seen.setdefault(robot, set()).add(answer.headers["X-Model-Version"])
        assert all(len(versions) == 1 for versions in seen.values())
        assert 4 <= sum(versions == {"2"} for versions in seen.values()) <= 28
        without = {running.segment(FRAME).headers["X-Model-Version"] for _ in range(5)}
        assert len(without) == 1  # one connection is one robot
        listing = until(running, lambda now: now["trial"]["compared"] >= 3)
        assert listing["trial"]["answered"] > 0
        assert listing["trial"]["mean_iou"] < 1


def test_a_trial_that_names_no_share_shadows_all_streams_and_answers_few(two: Path) -> None:
    with serving(two, version=1, admin_token=TOKEN) as running:
        shares = {
            mode: post(running, f"/models/{mode}", json={"version": 2}).json()["trial"]["share"]
            for mode in ("shadow", "canary")
        }
        assert shares == {"shadow": 1.0, "canary": 0.1}
        paths = running.client.get("/openapi.json").json()["paths"]
        bodies = {mode: paths[f"/models/{mode}"]["post"]["requestBody"]["content"] for mode in shares}
        told = {mode: body["application/json"]["schema"]["properties"]["share"] for mode, body in bodies.items()}
        assert {mode: share["default"] for mode, share in told.items()} == shares


def test_polling_lets_a_trial_that_somebody_began_go_on(two: Path) -> None:
    with serving(two, poll_s=0.02, vet_s=0, admin_token=TOKEN) as running:
        looks = count_looks(running)
        assert post(running, "/models/canary", json={"version": 1}).status_code == 200
        publish_tiny(two)
        seen = looks()
        until(running, lambda _: looks() >= seen + 3)
        assert states(running) == {3: "available", 2: "serving", 1: "canary"}
        assert post(running, "/models/canary", json={"version": 1, "share": 0}).status_code == 200
        until(running, lambda now: now["versions"][0]["state"] == "serving")
        assert [event[:2] for event in events(running)] == [("activate", 3), ("end-trial", 1), ("canary", 1)]


def count_looks(running: Running) -> Callable[[], int]:
    """How often newer versions have been looked for from now on."""
    seen, look = [0], running.models.newer

    def counted(than: int) -> list[int]:
        found = look(than)
        seen[0] += 1
        return found

    running.models.newer = counted  # type: ignore[method-assign]
    return lambda: seen[0]


def test_a_gate_promotes_a_candidate_that_keeps_to_it_and_leaves_a_trail(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path)
    trail = tmp_path / "audit.jsonl"
    with serving(tmp_path, version=1, admin_token=TOKEN, audit_log=trail) as running:
        gate = {"frames": 10, "min_iou": 0.99, "max_latency_ratio": 100}
        assert post(running, "/models/shadow", json={"version": 2, "promote_if": gate}).status_code == 200
        listing = until(running, lambda now: "trial" not in now)
        assert states(running) == {2: "serving", 1: "previous"}
        assert [event["result"] for event in listing["events"]] == ["activated", "promoted", "started"]
        assert "mean IoU 1.0000" in listing["events"][0]["reason"]
    assert [json.loads(line)["by"] for line in trail.read_text().splitlines()] == ["api", "gate", "gate"]


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_gate_drops_a_candidate_that_sees_something_else(two: Path, mode: str) -> None:
    with serving(two, version=1, admin_token=TOKEN) as running:
        gate = {"frames": 5, "min_iou": 0.99}
        body = {"version": 2, "share": 1, "promote_if": gate}
        assert post(running, f"/models/{mode}", json=body).status_code == 200
        listing = until(running, lambda now: "trial" not in now)
        assert states(running) == {1: "serving", 2: "available"}
        assert listing["events"][0]["result"] == "rejected"
        assert "expected a mean IoU of at least 0.99" in listing["events"][0]["reason"]


def test_with_a_gate_a_version_that_is_found_is_tried_before_it_serves(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path, poll_s=0.02, vet_s=0, promote_if="frames=5,min_iou=0.99") as running:
        publish_other(tmp_path)
        until(running, lambda now: now["events"] and now["events"][0]["result"] == "rejected")
        assert states(running) == {1: "serving", 2: "available"}
        publish_tiny(tmp_path)
        until(running, lambda now: now["versions"][0]["state"] == "serving")


def test_the_command_lists_and_changes(
    two: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from service.commands.models import main

    with serving(two, version=1, admin_token=TOKEN) as running:
        url = ["--url", str(running.client.base_url)]
        assert main([*url, "activate", "2"]) == 1
        assert "got none" in capsys.readouterr().err
        monkeypatch.setenv("ROBOMASK_ADMIN_TOKEN", TOKEN + "\n")
        assert main([*url, "activate", "2"]) == 0
        assert main(["rollback", *url]) == 0
        assert main([*url, "shadow", "2", "--share", "0.5", "--promote-if", "frames=9,min_iou=0.5"]) == 0
        assert main([*url, "canary", "2"]) == 0
        capsys.readouterr()
        assert main(["list", *url]) == 0
        text = capsys.readouterr().out
        assert "canary of 2 against 1" in text
        assert "rollback 1 by api: rolled-back" in text
    assert main([*url, "list"]) == 1
    assert "expected a service at" in capsys.readouterr().err
