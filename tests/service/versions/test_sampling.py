"""Hard frames become a data set that training reads; within a budget, and only if that was asked for."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from service_kit import ADMIN, TOKEN, Running, golden_frames, png, publish_other, publish_tiny, serving

from training.data.readers import read_frames

RED, BLACK = np.full((64, 64, 3), (255, 0, 0), np.uint8), np.zeros((64, 64, 3), np.uint8)
HALF = np.full((64, 64, 3), (66, 0, 0), np.uint8)  # a probability of just above a half


def send(running: Running, pixels: np.ndarray, stream: str) -> None:
    assert running.segment(png(pixels), headers={"X-Stream-Id": stream}).status_code == 200


def documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/annotations.json"))]


def test_unsure_frames_and_jumps_are_saved_with_proposals_that_training_reads(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "models")
    folder = tmp_path / "hard"
    with serving(tmp_path / "models", sample_to=folder) as running:
        send(running, HALF, "arm-1")
        send(running, RED, "arm-2")
        send(running, BLACK, "arm-2")
        send(running, RED, "arm-3")
        send(running, RED, "arm-3")
    (document,) = documents(folder)
    assert [(image["scene"], image["robomask"]["why"]) for image in document["images"]] == [
        ("arm-1", "unsure"),
        ("arm-2", "jump"),
    ]
    assert document["images"][0]["robomask"]["version"] == 1
    frames = read_frames(next(folder.iterdir()))
    assert frames.scene.tolist() == ["arm-1", "arm-2"]
    assert np.array_equal(frames.frames[0], HALF)
    assert frames.masks.reshape(2, -1).mean(axis=1).tolist() == [1, 0]


def test_a_frame_on_which_two_models_disagree_is_saved(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "models")
    publish_other(tmp_path / "models", bias=-30.0)
    folder = tmp_path / "hard"
    options: dict[str, Any] = {"sample_to": folder, "sample_confidence": 0.0, "admin_token": TOKEN}
    with serving(tmp_path / "models", version=1, **options) as running:
        assert running.client.post("/models/shadow", json={"version": 2}, headers=ADMIN).status_code == 200
        send(running, golden_frames()[0], "arm-1")
        while not running.client.get("/models").json()["trial"]["compared"]:
            pass
    (document,) = documents(folder)
    assert [image["robomask"]["why"] for image in document["images"]] == ["disagreement"]
    assert document["annotations"][0]["area"] > 0


def test_budgets_for_a_day_and_in_all_hold_over_restarts_and_days(tmp_path: Path) -> None:
    from service.versions.sampling import Hardness, Sampler
    from service.versions.slot import Opener
    from service.versions.watch import Seen

    slot = Opener(provider="cpu", precision=None, intra_op_threads=1, max_batch=None).open(
        publish_tiny(tmp_path / "models").folder
    )
    folder = tmp_path / "hard"

    def save(day: int, streams: int, saved: list[str]) -> None:
        sampler = Sampler(folder, Hardness(0.6, 0.5, 3, 7), saved.append, lambda: datetime(2026, 1, day, tzinfo=UTC))
        for stream in range(streams):
            unsure = np.full((1, 64, 64), 0.5, np.float32)
            sampler.answered(Seen(slot, [HALF], unsure, b"arm-%d" % stream, 100.0))
            sampler.answered(Seen(slot, [HALF], unsure, b"arm-%d" % stream, 100.1))  # too soon after the last
        sampler.close()

    counts = []
    for day, streams in ((1, 2), (1, 2), (2, 9), (3, 9), (4, 9)):
        saved: list[str] = []
        save(day, streams, saved)
        counts.append(len(saved))
    assert counts == [2, 1, 3, 1, 0]
    assert sorted(path.name for path in folder.iterdir()) == [
        "2026-01-01-1",
        "2026-01-01-2",
        "2026-01-02-1",
        "2026-01-03-1",
    ]
    assert sum(len(document["images"]) for document in documents(folder)) == 7
    assert list(folder.rglob("*.tmp")) == []


def test_cameras_of_one_request_are_not_compared_with_one_another(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "models")
    with serving(tmp_path / "models", sample_to=tmp_path / "hard", sample_confidence=0.0) as running:
        files = [("frame", ("wrist.png", png(RED))), ("frame", ("front.png", png(BLACK)))]
        for _ in range(3):
            assert running.client.post("/segment", files=files, headers={"X-Stream-Id": "arm"}).status_code == 200
        send(running, BLACK, "arm")  # one frame alone is of the first camera
    (document,) = documents(tmp_path / "hard")
    assert [image["robomask"]["why"] for image in document["images"]] == ["jump"]


def test_a_folder_that_is_moved_away_for_labelling_is_followed_by_another(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "models")
    folder = tmp_path / "hard"
    with serving(tmp_path / "models", sample_to=folder) as running:
        send(running, HALF, "arm-1")
        while not documents(folder):
            pass
        (first,) = folder.iterdir()
        first.rename(tmp_path / "taken")
        send(running, HALF, "arm-2")  # lost with the folder
        number = 3
        while not documents(folder):
            send(running, HALF, f"arm-{number}")
            number += 1


def test_nothing_is_saved_unless_asked_for(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "models")
    with serving(tmp_path / "models") as running:
        send(running, HALF, "arm-1")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
