"""What is not a bundle is refused, each for its reason, and the model in service stays."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from service_kit import golden_frames, png, publish_tiny, serving, tiny_onnx

from service.contract import BundleInvalid, BundleOutOfReach, Manifest, open_bundle
from service.contract.onnx_file import MAX_PARTS, OnnxInvalid, inspect_onnx
from service.errors import NotReady
from service.versions.vetting import memory_bound, vet

TOKEN = "open sesame"  # noqa: S105 - of a service that lives as long as a test


def external_onnx(location: str, **place: int) -> bytes:
    """The tiny model with one of its weights in another file, at an offset and of a length if they are given."""
    model = onnx.load_from_string(tiny_onnx())
    tensor = next(t for t in model.graph.initializer if t.name == "features")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return bytes(model.SerializeToString())


def blind_onnx() -> bytes:
    """The tiny model, but for black frames, of which it says nothing that is a number."""
    model = onnx.load_from_string(tiny_onnx())
    graph = model.graph
    place = next(i for i, node in enumerate(graph.node) if "probability" in node.output)
    graph.node[place].output[list(graph.node[place].output).index("probability")] = "unchecked"
    nodes = [
        helper.make_node("ReduceMax", ["float"], ["brightest"], keepdims=1),
        helper.make_node("Div", ["brightest", "brightest"], ["one_each"]),
        helper.make_node("Squeeze", ["one_each"], ["one"]),
        helper.make_node("Mul", ["unchecked", "one"], ["probability"]),
    ]
    for offset, node in enumerate(nodes, 1):
        graph.node.insert(place + offset, node)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def endless_onnx() -> bytes:
    """The tiny model with a loop before it that has no end to speak of."""
    model = onnx.load_from_string(tiny_onnx())
    graph = model.graph
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["going_on"]),
            helper.make_node("Identity", ["value"], ["same"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, None),
        ],
    )
    graph.initializer.extend(
        [
            helper.make_tensor("turns", TensorProto.INT64, [], [2**60]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [1]),
        ]
    )
    graph.node[1].output[0] = "unit0"
    graph.node.insert(2, helper.make_node("Loop", ["turns", "yes", "unit0"], ["unit"], body=body))
    return bytes(model.SerializeToString())


def greedy_onnx() -> bytes:
    """The tiny model, but on the way every pixel becomes a tensor that no machine can hold."""
    model = onnx.load_from_string(tiny_onnx())
    graph = model.graph
    graph.initializer.append(helper.make_tensor("times", TensorProto.INT64, [4], [1, 1, 1, 2_000_000]))
    graph.initializer.append(helper.make_tensor("axis", TensorProto.INT64, [1], [3]))
    graph.node[3].output[0] = "few"
    graph.node.insert(4, helper.make_node("Tile", ["few", "times"], ["many"]))
    graph.node.insert(5, helper.make_node("ReduceMean", ["many", "axis"], ["logits"]))
    return bytes(model.SerializeToString())


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "model.fp32.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.fp32.onnx").write_bytes(content)


def grow(folder: Path) -> None:
    os.truncate(folder / "model.fp32.onnx", 3 * 1024**3)  # takes no room on the disk


def link_out(folder: Path) -> None:
    outside = folder.parent.parent / "outside.npz"
    (folder / "golden.npz").rename(outside)
    (folder / "golden.npz").symlink_to(outside)


def move_out(folder: Path) -> None:
    outside = folder.parent.parent / "elsewhere"
    folder.rename(outside)
    folder.symlink_to(outside)


def climb(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("model.fp32.onnx", "../1/model.fp32.onnx"))


def rename(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"name": "tiny"', '"name": "foreign"'))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flip_a_byte, "expected sha256"),
        (lambda folder: (folder / "golden.npz").unlink(), "golden.npz: expected a plain file, found nothing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: expected a plain file, found nothing"),
        (grow, "expected at most 1073741824 bytes, found 3221225472"),
        (link_out, "expected a plain file, found a symbolic link"),
        (move_out, "a symbolic link that leads out of the repository"),
        (climb, "should match pattern"),
        (rename, "expected its place to be foreign/2"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"{"), "Invalid JSON"),
        (lambda folder: os.mkfifo(folder / "pipe") or (folder / "card.md").unlink(), "card.md: expected a plain file"),
    ],
)
def test_a_spoilt_bundle_is_refused_in_models_metrics_and_answer(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    publish_tiny(tmp_path)
    spoil(publish_tiny(tmp_path).folder)
    refuse(tmp_path, words)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (tiny_onnx(latent_side=8), "expected a model with"),
        (external_onnx("features.bin"), "found a tensor in another file"),
        (external_onnx("../../outside.bin"), "found a tensor in another file"),
        (external_onnx("/etc/hostname"), "found a tensor in another file"),
        (tiny_onnx(bias=1.0), "does not answer as it did"),
        (tiny_onnx()[:-100], "expected an ONNX model, found one that is cut off"),
        (greedy_onnx(), "expected"),
    ],
)
def test_a_model_that_must_not_be_opened_is_refused_too(tmp_path: Path, model: bytes, words: str) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path, precisions={"fp32": model})
    refuse(tmp_path, words)


def in_fp32_file() -> dict[str, int]:
    """Where the weights that `external_onnx` leaves out stand in the tiny model's file."""
    weights = next(t for t in onnx.load_from_string(tiny_onnx()).graph.initializer if t.name == "features").raw_data
    return {"offset": tiny_onnx().index(weights), "length": len(weights)}


def publish_fp16(repository: Path, fp16: bytes) -> None:
    publish_tiny(repository, precisions={"fp32": tiny_onnx(), "fp16": fp16})


def test_weights_in_the_fp32_file_of_the_same_bundle_are_believed(tmp_path: Path) -> None:
    for _ in range(2):
        publish_fp16(tmp_path, external_onnx("model.fp32.onnx", **in_fp32_file()))
    with serving(tmp_path, version=1, admin_token=TOKEN, precision="fp16") as running:
        answer = running.client.post("/models/2/activate", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        newest = answer.json()["versions"][0]
        assert (newest["version"], newest["state"], newest["precision"]) == (2, "serving", "fp16")
        assert running.segment(png(golden_frames()[0])).headers["X-Model-Version"] == "2"


@pytest.mark.parametrize(
    ("location", "change", "words"),
    [
        pytest.param("../1/model.fp32.onnx", {}, "found a tensor in another file", id="that of another bundle"),
        pytest.param("model.int8.onnx", {}, "found a tensor in another file", id="a file that is not there"),
        pytest.param("golden.npz", {}, "found a tensor in another file", id="a file that holds no weights"),
        pytest.param("model.fp32.onnx", {"offset": 2**40}, "expected an ONNX model", id="beyond its end"),
        pytest.param("model.fp32.onnx", {"length": 2**40}, "expected an ONNX model", id="longer than it is"),
    ],
)
def test_weights_elsewhere_are_not(tmp_path: Path, location: str, change: dict[str, int], words: str) -> None:
    place = in_fp32_file()
    publish_fp16(tmp_path, external_onnx("model.fp32.onnx", **place))
    publish_fp16(tmp_path, external_onnx(location, **place | change))
    refuse(tmp_path, words, precision="fp16")


def refuse(repository: Path, words: str, **settings: str) -> None:
    with serving(repository, version=1, admin_token=TOKEN, **settings) as running:
        answer = running.client.post("/models/2/activate", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 409
        assert words in answer.json()["detail"]
        listing = running.client.get("/models").json()
        assert {version["version"]: version["state"] for version in listing["versions"]} == {1: "serving", 2: "refused"}
        assert words in listing["versions"][0]["reason"]
        assert listing["events"][0]["result"] == "refused"
        assert 'robomask_swaps_total{result="refused"} 1.0' in running.client.get("/metrics").text
        assert running.segment(png(golden_frames()[0])).headers["X-Model-Version"] == "1"


def test_a_model_without_end_is_stopped_in_the_process_that_tries_it(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, precisions={"fp32": endless_onnx()}).folder
    with pytest.raises(BundleInvalid, match=r"within 5 s of processor time, it was not"):
        vet(folder, max_batch=None, precision=None, provider="cpu", limit_s=5)


@pytest.mark.parametrize(
    ("model", "vet_s", "words"),
    [
        (endless_onnx, 5, "expected a model that is opened and tested within"),
        (blind_onnx, 0, "expected probability float32"),
    ],
    ids=["without end", "fails while it is warmed up"],
)
def test_at_the_start_too_and_the_version_before_serves(
    tmp_path: Path, model: Callable[[], bytes], vet_s: float, words: str
) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path, precisions={"fp32": model()})
    with serving(tmp_path, vet_s=vet_s) as running:
        two, one = running.client.get("/models").json()["versions"]
        assert (one["version"], one["state"], two["version"]) == (1, "serving", 2)
        assert words in two["reason"]


def test_a_service_that_stops_does_not_wait_for_that_process(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, precisions={"fp32": endless_onnx()}).folder
    with pytest.raises(NotReady, match="the service stops"):
        vet(folder, max_batch=None, precision=None, provider="cpu", limit_s=60, stopped=lambda: True)


def kill_children(ended_by: signal.Signals) -> bool:
    """End the processes that this thread has begun; nobody stops waiting for them."""
    for child in Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split():
        os.kill(int(child), ended_by)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for its children in /proc")
@pytest.mark.parametrize(
    ("ended_by", "kind"),
    [
        pytest.param(signal.SIGKILL, BundleOutOfReach, id="killed, as for want of memory"),
        pytest.param(signal.SIGTERM, BundleOutOfReach, id="stopped by somebody"),
        pytest.param(signal.SIGSEGV, BundleInvalid, id="by a fault of its own"),
    ],
)
def test_a_process_that_is_ended_from_outside_says_nothing_of_the_bundle(
    tmp_path: Path, ended_by: signal.Signals, kind: type[BundleInvalid]
) -> None:
    folder = publish_tiny(tmp_path, precisions={"fp32": endless_onnx()}).folder
    with pytest.raises(BundleInvalid) as caught:
        vet(
            folder,
            max_batch=None,
            precision=None,
            provider="cpu",
            limit_s=60,
            stopped=lambda: kill_children(ended_by),
        )
    assert type(caught.value) is kind
    assert "expected" in str(caught.value)


def test_nor_does_one_that_found_no_time(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, precisions={"fp32": endless_onnx()}).folder
    with pytest.raises(BundleOutOfReach, match=r"within 0\.1 s, it was not"):
        vet(folder, max_batch=None, precision=None, provider="cpu", limit_s=0.1, patience=1)


def test_a_good_model_passes_there(tmp_path: Path) -> None:
    vet(publish_tiny(tmp_path).folder, max_batch=4, precision="fp32", provider="cpu", limit_s=120)


def test_that_process_may_take_what_a_container_has_left(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    assert memory_bound(tmp_path) == 1_600_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bound(tmp_path) == 4 * 1024**3


def test_looking_into_a_file_counts_what_is_there_and_finds_data_in_inner_graphs() -> None:
    assert inspect_onnx(tiny_onnx()).nodes == 10
    inner = onnx.load_from_string(endless_onnx())
    loop = next(node for node in inner.graph.node if node.op_type == "Loop")
    tensor = loop.attribute[0].g.initializer.add(name="far", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(OnnxInvalid, match="another file"):
        inspect_onnx(inner.SerializeToString())


def test_data_in_a_file_that_is_held_in_memory_is_no_data_elsewhere() -> None:
    assert inspect_onnx(external_onnx("shared.onnx"), {"shared.onnx"}).nodes == 10
    with pytest.raises(OnnxInvalid, match="another file"):
        inspect_onnx(external_onnx("../shared.onnx"), {"shared.onnx"})


def test_a_graph_of_too_many_parts_or_too_deep_is_refused() -> None:
    node = onnx.NodeProto(op_type="Identity").SerializeToString()
    graph = b"".join([b"\x0a" + bytes([len(node)]) + node] * (MAX_PARTS + 1))
    many = onnx.ModelProto()
    many.graph.ParseFromString(graph)
    with pytest.raises(OnnxInvalid, match="a graph beyond that"):
        inspect_onnx(many.SerializeToString())


@pytest.mark.parametrize("seed", range(20))
def test_bytes_of_any_kind_are_refused_or_read_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(tiny_onnx())
    for place in rng.integers(0, len(content), 20):
        content[place] = rng.integers(0, 256)
    with contextlib.suppress(OnnxInvalid):
        assert inspect_onnx(bytes(content)).parts > 0


def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    bundle = publish_tiny(tmp_path)
    document = bundle.manifest.model_dump(mode="json")
    for name in ("../x.onnx", "/etc/passwd", ".hidden", "a/b.onnx"):
        with pytest.raises(ValueError, match="pattern"):
            Manifest.model_validate(document | {"precisions": {"fp32": name}})
    assert open_bundle(bundle.folder).sha256 == bundle.sha256
