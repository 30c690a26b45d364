"""fp16 and int8 beside fp32: what is in the files, how close they stay, and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import precisions
from export.bench_precisions import main as bench_command
from export.commands.evaluate import main as evaluate_command
from export.commands.export import main as export_command
from export.gate import judge, require_close
from export.golden_frames import golden_frames
from export.graph import ServingGraph, round_weights_to_half
from export.precisions import Trial, export_fp32, export_int8, rank
from export.quantisable import PlaneConv, QuantisableGraph, SubPixelConv
from export.quantise import Quantiser
from export.sessions import open_session, probabilities
from export.to_onnx import ExportError, to_onnx
from service.contract import open_bundle
from training.config import DataConfig, ModelConfig, TrainConfig
from training.data.frames import FrameSet
from training.run import write_run
from training.segmenter import Segmenter, build_segmenter


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """A small network with random weights, no two alike: the exporter keeps one of equal ones."""
    torch.manual_seed(3)
    network = build_segmenter((1, 1, 1, 1)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    round_weights_to_half(network)
    return network


@pytest.fixture(scope="module")
def frames(toys: FrameSet) -> np.ndarray:
    return toys.frames


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, segmenter: Segmenter, toys: FrameSet) -> Path:
    """A run folder whose training data is a data set with marks."""
    folder = tmp_path_factory.mktemp("run")
    split = np.where(np.isin(toys.scene, ["toy0", "toy1"]), "val", "train")
    np.savez(folder / "toys.npz", frames=toys.frames, masks=toys.masks, scene=toys.scene, split=split)
    config = TrainConfig(out=folder, data=DataConfig(train=(folder / "toys.npz",)), model=ModelConfig(layers=(1,) * 4))
    record = {
        "split": {"train": ["toy2", "toy3", "toy4", "toy5"], "val": ["toy0", "toy1"]},
        "frames": {"train": 16, "val": 8},
        "data": [{"name": "toys.npz", "sha256": "0" * 64}],
    }
    write_run(folder, segmenter, config, record)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    models = tmp_path_factory.mktemp("models")
    arguments = [str(run), "--models", str(models), "--name", "toy", "--data", str(run / "toys.npz")]
    assert export_command(arguments) == 0
    return models / "toy" / "1"


def test_a_transposed_convolution_and_its_sub_pixel_form_agree() -> None:
    torch.manual_seed(0)
    layer = torch.nn.ConvTranspose2d(5, 7, 3, stride=2, padding=1, output_padding=1)
    x = torch.randn(2, 5, 6, 4)
    with torch.inference_mode():
        torch.testing.assert_close(SubPixelConv(layer)(x), torch.relu(layer(x)), atol=1e-6, rtol=0)


def test_a_transposed_convolution_of_another_shape_is_refused() -> None:
    with pytest.raises(TypeError, match="stride 2"):
        SubPixelConv(torch.nn.ConvTranspose2d(5, 7, 4, stride=2, padding=1))


def test_a_convolution_to_one_channel_and_its_sum_of_planes_agree() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(5, 1, 3, padding=1)
    x = torch.randn(2, 5, 6, 4)
    with torch.inference_mode():
        torch.testing.assert_close(PlaneConv(layer)(x), layer(x)[:, 0], atol=1e-6, rtol=0)
    with pytest.raises(TypeError, match="one channel"):
        PlaneConv(torch.nn.Conv2d(5, 2, 3, padding=1))


@pytest.mark.parametrize("head", ["attention-conv", "attention-skips"])
def test_the_network_rewritten_for_8_bits_is_the_same_network(frames: np.ndarray, head: str) -> None:
    torch.manual_seed(0)
    segmenter = build_segmenter((1, 1, 1, 1), head=head).eval()
    batch = torch.from_numpy(frames[:3])
    with torch.inference_mode():
        plain, rewritten = ServingGraph(segmenter)(batch), QuantisableGraph(segmenter).eval()(batch)
    torch.testing.assert_close(rewritten.probability, plain.probability, atol=1e-5, rtol=0)
    torch.testing.assert_close(rewritten.latents, plain.latents)


def test_a_bundle_has_every_precision_and_says_what_each_is_worth(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert sorted(opened.manifest.precisions) == ["fp16", "fp32", "int8"]
    assert opened.manifest.default_precision == "fp32"
    measured = {(m.precision, m.name): m.value for m in opened.manifest.metrics}
    for precision in ("fp16", "int8"):
        assert measured[precision, "iou_with_fp32"] > 0.9
        assert measured["fp32", "iou_mean"] - measured[precision, "iou_mean"] <= 0.005
        assert f"| {precision} |" in (bundle / "card.md").read_text()


def test_int8_is_judged_by_its_exact_sums_on_every_processor(bundle: Path, frames: np.ndarray) -> None:
    model = open_bundle(bundle).model("int8")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    exact = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    gap = np.abs(probabilities(open_session(model), frames[:4]) - probabilities(exact, frames[:4]))
    assert gap.mean() < 0.005


def test_each_precision_answers_the_golden_frames_within_its_own_tolerance(bundle: Path) -> None:
    opened = open_bundle(bundle)
    golden = opened.golden()
    for precision in opened.manifest.precisions:
        session = open_session(opened.model(precision), opened.beside(precision))
        gap = np.abs(session.run(["probability"], {"frames": golden.frames})[0] - golden.probability).max()
        assert gap <= golden.allowed(precision)
    assert golden.allowed("fp32") < golden.allowed("fp16")


def test_every_product_with_weights_is_8_bit_with_a_scale_for_each_channel_and_the_logits_are_not(
    bundle: Path,
) -> None:
    graph = onnx.load_from_string(open_bundle(bundle).model("int8")).graph
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in {"Conv", "MatMul"}]
    for node in products:
        source = made_by[node.input[1]]
        if node.op_type == "Conv" or (source.op_type == "DequantizeLinear" and source.input[0] in weights):
            assert weights[source.input[0]].data_type == onnx.TensorProto.INT8
            assert len(weights[source.input[1]].dims) == 1
    assert len([node for node in products if node.op_type == "Conv"]) > 20
    behind_logits = made_by[made_by["probability"].input[0]]
    while behind_logits.op_type != "MatMul":
        assert behind_logits.op_type != "DequantizeLinear"
        behind_logits = made_by[behind_logits.input[0]]


def test_residual_sums_read_what_was_not_rounded(bundle: Path) -> None:
    graph = onnx.load_from_string(open_bundle(bundle).model("int8")).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    sums = [node for node in graph.node if node.op_type == "Add"]
    assert sums
    assert "DequantizeLinear" not in {made_by.get(name) for node in sums for name in node.input}


@pytest.mark.parametrize("head", ["attention-conv", "attention-skips"])
def test_every_convolution_runs_in_8_bits_and_nothing_is_rectified_twice(
    frames: np.ndarray, head: str, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    segmenter = build_segmenter((2, 1, 1, 1), head=head).eval()  # two blocks: a sum that goes into another
    content = Quantiser(to_onnx(QuantisableGraph(segmenter).eval()), frames[:4]).write()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    as_run = [node.op_type for node in onnx.load(tmp_path / "as_run.onnx", load_external_data=False).graph.node]
    assert as_run.count("QLinearConv") > 20
    assert "Conv" not in as_run
    graph = onnx.load_from_string(content).graph
    made_by = {name: node for node in graph.node for name in node.output}
    outputs = {output.name for output in graph.output}
    inside = [node for node in graph.node if node.op_type == "Relu" and outputs.isdisjoint(node.output)]
    rectified = [made_by.get(node.input[0]) for node in inside]
    sums = [node for node in rectified if node is not None and node.op_type == "Add"]
    assert not any(all(_is_rectified(made_by, name) for name in node.input) for node in sums)


def _is_rectified(made_by: dict[str, onnx.NodeProto], name: str) -> bool:
    node = made_by.get(name)
    while node is not None and node.op_type == "Transpose":
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Relu"


def test_the_int8_file_is_about_half_as_large_and_fp16_hardly_takes_room(bundle: Path) -> None:
    size = {p: len(open_bundle(bundle).model(p)) for p in ("fp32", "fp16", "int8")}
    assert size["int8"] < 0.6 * size["fp32"]
    assert size["fp16"] < 0.1 * size["fp32"]


def test_fp16_reads_its_weights_out_of_the_fp32_file(bundle: Path) -> None:
    opened = open_bundle(bundle)
    graph = onnx.load_from_string(opened.model("fp16")).graph
    assert not [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    places = [{e.key: e.value for e in t.external_data} for t in graph.initializer if t.external_data]
    assert places
    assert {place["location"] for place in places} == {"model.fp32.onnx"}
    assert opened.beside("fp16").keys() == {"model.fp32.onnx"}
    assert opened.beside("int8") == {}


def test_a_bundle_is_exported_once_more_with_precisions_it_lacks(bundle: Path, run: Path, tmp_path: Path) -> None:
    arguments = ["--models", str(tmp_path), "--name", "thin", "--precisions", "fp32"]
    assert export_command([str(run), *arguments]) == 0
    thin = tmp_path / "thin" / "1"
    again = [str(thin), "--models", str(tmp_path), "--calibration", str(run / "toys.npz"), "--precisions", "fp32,int8"]
    assert export_command([*again, "--data", str(run / "toys.npz")]) == 0
    manifest = open_bundle(tmp_path / "thin" / "2").manifest
    assert sorted(manifest.precisions) == ["fp32", "int8"]
    assert manifest.lineage == open_bundle(thin).manifest.lineage
    first, second = (open_session(open_bundle(folder).model("fp32")) for folder in (bundle, tmp_path / "thin" / "2"))
    golden = golden_frames()
    np.testing.assert_allclose(probabilities(first, golden), probabilities(second, golden), atol=1e-5)


def test_without_frames_to_calibrate_on_int8_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_command([str(bundle), "--models", str(tmp_path)]) == 1
    assert "--calibration" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_costs_too_much_is_refused_and_says_what_it_costs() -> None:
    truth = np.zeros((2, 64, 64), bool)
    truth[:, :32] = True
    worse = truth.copy()
    worse[:, 30:32] = False
    close = truth.copy()
    close[0, 0, :3] = False
    for labels in (truth.astype(np.uint8), None):
        require_close(judge("int8", close, truth, labels))
        with pytest.raises(ExportError, match=r"int8 to cost at most 0\.005 of the mean IoU, it costs 0\.0625"):
            require_close(judge("int8", worse, truth, labels))


def test_a_precision_may_be_better_than_fp32() -> None:
    truth = np.ones((1, 64, 64), np.uint8)
    reference = truth.astype(bool)
    reference[0, 0] = False
    verdict = judge("int8", truth.astype(bool), reference, truth)
    assert verdict.drop < 0
    assert verdict.passes


def test_layers_can_be_left_in_float_and_are_ranked_by_the_harm_they_take(
    segmenter: Segmenter, frames: np.ndarray
) -> None:
    quantiser = Quantiser(to_onnx(QuantisableGraph(segmenter).eval()), frames[:4])
    ranked = rank(quantiser, frames[:1])
    assert sorted(ranked) == sorted(quantiser.layers)
    graph = onnx.load_from_string(quantiser.write(keep_float=ranked[:2])).graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    floats = {n.name for n in graph.node if n.name in quantiser.layers and n.input[1] not in dequantised}
    assert floats == set(ranked[:2])


def test_int8_that_cannot_be_saved_is_refused(
    segmenter: Segmenter, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "MOST_FLOAT_LAYERS", 0)
    golden = golden_frames()
    trial = Trial(frames[:2], None, 0.5)
    fp32, _ = export_fp32(segmenter, trial, golden)
    black = np.zeros((1, 64, 64, 3), np.uint8)  # says nothing of how large activations get
    wrong = np.where(fp32.probability > 0.5, 0.0, 1.0).astype(np.float32)
    impossible = type(fp32)(fp32.content, wrong, fp32.golden)
    with pytest.raises(ExportError, match="--precisions"):
        export_int8(segmenter, impossible, trial, golden, black)


def test_a_precision_can_be_evaluated(bundle: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(bundle), "--data", str(run / "toys.npz"), "--split", "val", "--precision", "int8"]
    assert evaluate_command(arguments) == 0
    found = json.loads(capsys.readouterr().out)["iou"]["mean"]
    stated = {(m.precision, m.name): m.value for m in open_bundle(bundle).manifest.metrics}
    assert found == pytest.approx(stated["int8", "iou_mean"], abs=0.005)
    assert evaluate_command([str(run), *arguments[1:]]) == 1
    assert "expected a bundle" in capsys.readouterr().err


def test_the_benchmark_tells_speed_quality_and_where_time_goes(
    bundle: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(bundle), "--data", str(run / "toys.npz"), "--rounds", "2", "--split-time"]
    assert bench_command([*arguments, "--as-json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["forms"]) == ["pytorch published", "pytorch collapsed", "onnx fp32", "onnx fp16", "onnx int8"]
    assert all(form["median_ms"] > 0 for form in report["forms"].values())
    assert report["forms"]["onnx fp32"]["iou_with_fp32"] == 1
    assert "QLinearConv" in report["milliseconds_by_operator"]["int8"]
    assert bench_command([*arguments, "--against", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "onnx int8  " in out
    assert "onnx int8 of version 1 " in out
