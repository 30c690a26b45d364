"""Every form of request gives the right mask, in every form of answer."""

import base64
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from service_kit import Running, encode, golden_frames, png, publish_cells, publish_tiny, red_probability, serving

from service.web.answers import SegmentAnswer

FRAME = golden_frames()[0]
MASK = (red_probability(FRAME[None])[0] >= 0.5).astype(np.uint8)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def masks_of(response: httpx.Response) -> list[np.ndarray]:
    assert response.status_code == 200, response.text
    return [coco.decode(dict(frame["mask"])) for frame in response.json()["frames"]]


def test_one_picture_gives_its_mask_and_says_who_made_it_in_what_time(service: Running) -> None:
    response = service.segment(png(FRAME))
    answer = SegmentAnswer.model_validate(response.json())
    (frame,) = answer.frames
    assert np.array_equal(coco.decode(frame.mask.model_dump()), MASK)
    assert (frame.width, frame.height, frame.area, frame.present) == (64, 64, MASK.sum(), True)
    probability = red_probability(FRAME[None])[0]
    assert frame.confidence == pytest.approx(probability[MASK == 1].mean(), abs=1e-4)
    rows, columns = np.flatnonzero(MASK.any(axis=1)), np.flatnonzero(MASK.any(axis=0))
    assert frame.bbox == (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert answer.model.name == response.headers["X-Model-Name"] == "tiny"
    assert str(answer.model.version) == response.headers["X-Model-Version"] == "1"
    assert answer.model.sha256 == response.headers["X-Model-Sha256"]
    assert set(answer.timing_ms) == {"decode", "queue", "infer", "encode"}
    timing = response.headers["Server-Timing"]
    assert re.fullmatch(r"decode;dur=[\d.]+, queue;dur=[\d.]+, infer;dur=[\d.]+, encode;dur=[\d.]+", timing)
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-Id"])


def test_every_form_of_request_gives_the_same_mask(service: Running) -> None:
    image = Image.fromarray(FRAME)
    text = base64.b64encode(png(FRAME)).decode()
    answers = [
        service.segment(png(FRAME), "image/png"),
        service.segment(encode(image, "BMP"), "image/bmp"),
        service.segment(encode(image, "WEBP", lossless=True), "image/webp"),
        service.segment(png(FRAME), "image/jpeg"),  # the content decides
        service.segment(png(FRAME), None),
        service.segment(npy(FRAME), None),
        service.segment(npy(FRAME), "application/x-npy"),
        service.segment(npy(np.asfortranarray(FRAME)), "application/x-npy"),
        service.segment(npy(FRAME[None]), "application/x-npy"),
        service.segment(FRAME.tobytes(), "application/octet-stream", params={"width": 64, "height": 64}),
        service.client.post("/segment", json={"frames": [text]}),
        service.client.post("/segment", files={"frame": ("x.png", png(FRAME), "image/png")}),
        service.client.post("/segment", files={"frame": ("x", png(FRAME), "application/octet-stream")}),
    ]
    for response in answers:
        (mask,) = masks_of(response)
        assert np.array_equal(mask, MASK)


def test_a_part_without_a_content_type_is_read(service: Running) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="frame"\r\n\r\n' + png(FRAME) + b"\r\n--b--\r\n"
    assert np.array_equal(masks_of(service.segment(body, "multipart/form-data; boundary=b"))[0], MASK)


def test_a_chunked_body_is_read(service: Running) -> None:
    content = png(FRAME)
    response = service.client.post(
        "/segment", content=(content[i : i + 1000] for i in range(0, len(content), 1000)),
        headers={"Content-Type": "image/png"},
    )  # fmt: skip
    assert np.array_equal(masks_of(response)[0], MASK)


def test_many_frames_come_back_in_order_each_at_its_own_size(service: Running) -> None:
    sizes = [(64, 64), (40, 90), (128, 32)]
    colours = [(255, 0, 0), (0, 255, 0), (255, 0, 255)]
    pictures = [png(np.full((*size, 3), colour, np.uint8)) for size, colour in zip(sizes, colours, strict=True)]
    for response in (
        service.client.post("/segment", files=[("frame", ("x.png", picture, "image/png")) for picture in pictures]),
        service.client.post("/segment", json={"frames": [base64.b64encode(p).decode() for p in pictures]}),
    ):
        assert [(mask.shape, mask.mean()) for mask in masks_of(response)] == [
            ((64, 64), 1), ((40, 90), 0), ((128, 32), 1),
        ]  # fmt: skip
        frames = response.json()["frames"]
        assert [frame["present"] for frame in frames] == [True, False, True]
        assert frames[1]["bbox"] == [0, 0, 0, 0]
        assert frames[1]["confidence"] > 0.9


def test_a_mask_in_png_npy_and_npz_is_the_same_mask(service: Running) -> None:
    content = png(FRAME)
    drawn = service.segment(content, headers={"Accept": "image/png"})
    assert drawn.headers["Content-Type"] == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(drawn.content))), MASK * 255)
    array = np.load(io.BytesIO(service.segment(content, headers={"Accept": "application/x-npy"}).content))
    assert array.dtype == np.uint8
    assert np.array_equal(array, MASK[None])
    with np.load(io.BytesIO(service.segment(content, headers={"Accept": "application/x-npz"}).content)) as archive:
        assert archive.files == ["masks"]
        assert np.array_equal(archive["masks"], MASK[None])


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("size", [(320, 180), (131, 200), (40, 90)])
def test_every_form_of_answer_has_the_very_same_pixels(
    service: Running, size: tuple[int, int], threshold: float, fit: str
) -> None:
    content = png(np.asarray(Image.fromarray(FRAME).resize(size)))
    answers = {
        form: service.segment(content, params={"fit": fit, "threshold": threshold}, headers={"Accept": form})
        for form in ("application/json", "image/png", "application/x-npy", "application/x-npz")
    }
    (mask,) = masks_of(answers["application/json"])
    assert mask.shape == size[::-1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answers["image/png"].content))), mask * 255)
    assert np.array_equal(np.load(io.BytesIO(answers["application/x-npy"].content)), mask[None])
    with np.load(io.BytesIO(answers["application/x-npz"].content)) as archive:
        assert np.array_equal(archive["masks"], mask[None])


@pytest.mark.parametrize("query", [{}, {"size": "model"}, {"fit": "pad"}, {"fit": "crop"}, {"probability": "true"}])
def test_every_form_of_answer_says_how_sure_the_model_is_and_all_say_the_same(
    service: Running, query: dict[str, str]
) -> None:
    enlarged = png(np.asarray(Image.fromarray(FRAME).resize((320, 180))))
    frames = [("frame", ("a.png", enlarged, "image/png"))] * 2
    asked = {key: value for key, value in query.items() if key != "probability"}
    plain = service.client.post("/segment", files=frames, params=asked)
    assert "X-Confidence" not in plain.headers
    sure = [frame["confidence"] for frame in plain.json()["frames"]]
    for form in ("application/x-npy", "application/x-npz"):
        if form == "application/x-npz" or "probability" not in query:
            answer = service.client.post("/segment", files=frames, params=query, headers={"Accept": form})
            assert [float(one) for one in answer.headers["X-Confidence"].split(",")] == sure, form
    if "probability" not in query:
        answer = service.segment(enlarged, params=query, headers={"Accept": "image/png"})
        assert float(answer.headers["X-Confidence"]) == sure[0]


def test_probabilities_and_latents_come_when_asked_for(service: Running) -> None:
    frames = golden_frames()
    response = service.segment(
        npy(frames), "application/x-npy", params={"latents": "true", "probability": "true"},
        headers={"Accept": "application/x-npz"},
    )  # fmt: skip
    with np.load(io.BytesIO(response.content)) as archive:
        assert np.allclose(archive["probability"], red_probability(frames), atol=1e-5)
        assert archive["latents"].shape == (3, 16, 16, 240)
        expected = archive["latents"]
    latents = service.segment(npy(frames), "application/x-npy", params={"latents": "true"}).json()["latents"]
    assert (latents["dtype"], latents["shape"]) == ("float32", [3, 16, 16, 240])
    assert np.array_equal(np.frombuffer(base64.b64decode(latents["data"]), "<f4").reshape(3, 16, 16, 240), expected)
    assert "latents" not in service.segment(png(FRAME)).json()


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "application/json"),
        ("image/*", "image/png"),
        ("application/json;q=0.2, image/png;q=0.9", "image/png"),
        ("*/*, application/json;q=0", "image/png"),
        ("application/x-npz, */*;q=0.1", "application/x-npz"),
        ("APPLICATION/X-NPY", "application/x-npy"),
        ("text/html, application/json; charset=utf-8", "application/json"),
    ],
)
def test_the_form_of_the_answer_is_the_one_that_the_client_likes_best(
    service: Running, accept: str | None, wanted: str
) -> None:
    request = service.client.build_request(
        "POST", "/segment", content=png(FRAME), headers={"Content-Type": "image/png"}
    )
    del request.headers["Accept"]
    if accept is not None:
        request.headers["Accept"] = accept
    assert service.client.send(request).headers["Content-Type"] == wanted


def test_a_form_that_cannot_hold_the_answer_gives_way_to_the_next_accepted_one(service: Running) -> None:
    response = service.segment(
        npy(golden_frames()), "application/x-npy", headers={"Accept": "image/png, application/x-npy;q=0.5"}
    )
    assert response.headers["Content-Type"] == "application/x-npy"


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_a_mask_lies_on_the_frame_whatever_its_shape_and_however_it_was_fitted(service: Running, fit: str) -> None:
    frame = np.zeros((300, 500, 3), np.uint8)
    frame[100:200, 200:350, 0] = 255
    response = service.segment(png(frame), params={"fit": fit})
    (mask,) = masks_of(response)
    assert mask.shape == (300, 500)
    overlap = np.logical_and(mask, frame[..., 0]).sum() / np.logical_or(mask, frame[..., 0]).sum()
    assert overlap > 0.88  # a cell of the model is eight pixels wide here, and one that is a quarter red counts as red
    note = response.json()["frames"][0]
    assert np.abs(np.array(note["bbox"]) - [200, 100, 150, 100]).max() <= 8
    (small,) = masks_of(service.segment(png(frame), params={"fit": fit, "size": "model"}))
    assert small.shape == (64, 64)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 3000)])
def test_the_smallest_and_the_largest_pictures_work(service: Running, width: int, height: int) -> None:
    response = service.segment(encode(Image.new("RGB", (width, height), (255, 0, 0)), "PNG"))
    note = response.json()["frames"][0]
    assert (note["width"], note["height"], note["area"]) == (width, height, width * height)
    assert note["mask"]["size"] == [height, width]


def test_a_picture_that_lies_on_its_side_is_answered_upright(service: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((64, 128, 3), np.uint8)
    stored[:, :64, 0] = 255  # left as stored, above once turned
    response = service.segment(encode(Image.fromarray(stored), "JPEG", quality=95, exif=exif), "image/jpeg")
    (mask,) = masks_of(response)
    assert mask.shape == (128, 64)
    assert mask[:60].mean() > 0.99
    assert mask[68:].mean() < 0.01


def test_the_threshold_moves_the_mask(service: Running) -> None:
    areas = [
        service.segment(png(FRAME), params={"threshold": threshold}).json()["frames"][0]["area"]
        for threshold in ("0", "0.2", "5e-1", "0.9", "1")
    ]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] == 64 * 64
    assert areas[2] == MASK.sum()


def test_the_model_in_service_can_be_asked_for_by_name_and_version(service: Running) -> None:
    assert service.segment(png(FRAME), params={"model": "tiny", "version": "1"}).status_code == 200


def test_the_clients_request_id_comes_back_if_it_is_sane(service: Running) -> None:
    assert service.segment(png(FRAME), headers={"X-Request-Id": "arm-7/42"}).headers["X-Request-Id"] == "arm-7/42"
    for insane in ("x" * 200, "with space", "tab\there", ""):
        got = service.segment(png(FRAME), headers={"X-Request-Id": insane}).headers["X-Request-Id"]
        assert re.fullmatch(r"[0-9a-f]{32}", got)


def test_a_bad_frame_fails_alone_among_requests_at_the_same_time(service: Running) -> None:
    bodies = [png(FRAME), png(FRAME)[:200]] * 12

    def post(body: bytes) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{service.port}/segment", content=body, headers={"Content-Type": "image/png"}, timeout=30
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, bodies))
    assert [answer.status_code for answer in answers] == [200, 400] * 12
    for answer in answers[::2]:
        assert np.array_equal(masks_of(answer)[0], MASK)


def test_batches_give_the_same_masks(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    frames = np.random.default_rng(1).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)
    with serving(tmp_path, max_batch=4) as running:
        response = running.segment(npy(frames), "application/x-npy", headers={"Accept": "application/x-npy"})
        masks = np.load(io.BytesIO(response.content))
    assert np.array_equal(masks, red_probability(frames) >= 0.5)


def test_the_bundles_own_threshold_is_the_default(tmp_path: Path) -> None:
    publish_tiny(tmp_path, threshold=0.9)
    with serving(tmp_path) as running:
        answer: dict[str, Any] = running.segment(png(FRAME)).json()
    assert answer["frames"][0]["area"] == (red_probability(FRAME[None]) >= 0.9).sum()


@pytest.mark.parametrize("side", [32, 100])
def test_robot_that_no_pixel_of_the_frame_shows_is_not_there_and_not_sure(tmp_path: Path, side: int) -> None:
    cells = np.full((64, 64), 0.01, np.float32)
    cells[20, 20] = 0.99
    publish_cells(tmp_path, cells)
    with serving(tmp_path) as running:
        frame = png(np.zeros((side, side, 3), np.uint8))
        (found,) = running.segment(frame).json()["frames"]
        assert (found["area"], found["present"]) == (0, False)
        assert found["confidence"] == pytest.approx(0.01, abs=1e-4)
        for form in ("image/png", "application/x-npy", "application/x-npz"):
            assert running.segment(frame, headers={"Accept": form}).status_code == 200
        (found,) = running.segment(frame, params={"size": "model"}).json()["frames"]
        assert (found["area"], found["present"]) == (1, True)
        assert found["confidence"] == pytest.approx(0.99, abs=1e-4)
        assert confidences(running) == pytest.approx(4 * 0.01 + 0.99, abs=1e-3)


def test_robot_at_the_edge_of_a_padded_frame_is_there_and_as_sure_as_its_pixels(tmp_path: Path) -> None:
    cells = np.full((64, 64), 0.01, np.float32)
    cells[7, 20:40], cells[8, 20:40] = 0.99, 0.3  # the row above shows padding alone
    publish_cells(tmp_path, cells)
    with serving(tmp_path) as running:
        frame = png(np.zeros((450, 600, 3), np.uint8))
        (found,) = running.segment(frame, params={"fit": "pad"}).json()["frames"]
        assert found["present"]
        assert 0.5 <= found["confidence"] < 0.65


def confidences(running: Running) -> float:
    """The sum of those that have been observed."""
    (line,) = (
        line
        for line in running.client.get("/metrics").text.splitlines()
        if line.startswith("robomask_mask_confidence_sum ")
    )
    return float(line.split()[1])


def test_cameras_of_one_request_are_told_apart_by_their_file_names(service: Running) -> None:
    red, green = (png(np.full((8, 8, 3), colour, np.uint8)) for colour in ((255, 0, 0), (0, 255, 0)))
    files = [("frame", ("wrist.png", red, "image/png")), ("frame", ("front ✓", green, "image/png"))]
    frames = service.client.post("/segment", files=files).json()["frames"]
    assert [frame["name"] for frame in frames] == ["wrist.png", "front ✓"]
    assert [frame["present"] for frame in frames] == [True, False]
    assert "name" not in service.segment(red).json()["frames"][0]


def test_latents_come_at_half_the_size_when_asked_for(service: Running) -> None:
    query = {"latents": "true", "latents_dtype": "float16"}
    whole = service.segment(png(FRAME), params={"latents": "true"}).json()["latents"]
    half = service.segment(png(FRAME), params=query).json()["latents"]
    assert (half["dtype"], half["shape"]) == ("float16", [1, 16, 16, 240])
    expected = np.frombuffer(base64.b64decode(whole["data"]), "<f4").astype(np.float16)
    assert np.array_equal(np.frombuffer(base64.b64decode(half["data"]), "<f2"), expected)
    archive = service.segment(png(FRAME), params=query, headers={"Accept": "application/x-npz"})
    with np.load(io.BytesIO(archive.content)) as arrays:
        assert arrays["latents"].dtype == np.float16
    alone = service.segment(png(FRAME), params={"latents_dtype": "float16"})
    assert (alone.status_code, alone.json()["type"]) == (422, "urn:robomask:problem:parameter-invalid")


def test_problems_say_which_model_was_asked_and_how_long_it_took(service: Running) -> None:
    response = service.segment(png(FRAME), headers={"Accept": "image/png"}, params={"probability": "true"})
    assert response.status_code == 406
    assert response.headers["X-Model-Name"] == "tiny"
    assert "decode;dur=" in response.headers["Server-Timing"]
