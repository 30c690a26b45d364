"""The frame encoder in the repository: what finetuning can start from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import ModelConfig
from training.pretrain.weights import read_frame_encoder
from training.segmenter import normalise
from training.start import start_of
from training.videogpt.resnet import FrameEncoder

FILE = Path(__file__).parent.parent / "pretrained" / "frame_encoder.safetensors"
EXAMPLE = FILE.parent.parent / "examples" / "frame.png"


@pytest.fixture(scope="module")
def encoder() -> FrameEncoder:
    return read_frame_encoder(FILE)


def test_it_tells_places_of_a_frame_apart(encoder: FrameEncoder) -> None:
    frame = torch.from_numpy(np.array(Image.open(EXAMPLE).convert("RGB")))[None]
    with torch.inference_mode():
        latents = encoder(normalise(frame)[:, :, None])[0, 0]
    assert latents.shape == (16, 16, 240)
    # a collapsed encoder, which says the same everywhere, has 0.06
    assert latents.flatten(0, 1).std(0).mean() > 0.2


def test_a_network_starts_from_it(encoder: FrameEncoder) -> None:
    segmenter, _ = start_of(ModelConfig(pretrained=FILE))
    stem = dict(segmenter.encoder.named_parameters())["stem.0.weight"]
    torch.testing.assert_close(stem.flatten(), encoder.state_dict()["stem.0.weight"][:, :, 1].flatten())
