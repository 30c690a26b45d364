"""Run lengths: numpy against COCO's own code."""

import numpy as np
import pytest
from pycocotools import mask as coco

from service.client.runs import decode_runs


@pytest.mark.parametrize("seed", range(20))
def test_masks_decode_as_coco_encoded_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2)
    mask = rng.random((height, width)) < rng.random()
    counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert (decode_runs(counts, height, width) == mask).all()


@pytest.mark.parametrize("value", [0, 1])
def test_a_mask_of_one_value_decodes(value: int) -> None:
    mask = np.full((720, 1280), value, np.uint8)
    counts = coco.encode(np.asfortranarray(mask))["counts"].decode()
    assert (decode_runs(counts, 720, 1280) == mask).all()


@pytest.mark.parametrize("counts", ["", "é", "!", "o", "22222", "99", "oooooooooooooooooooooooo0"])
def test_what_is_none_is_refused(counts: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        decode_runs(counts, 2, 2)
