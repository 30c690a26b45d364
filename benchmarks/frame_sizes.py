"""IoU on frames of other sizes than 64x64, as the service averages them and as Pillow's BOX filter would.

    python -m benchmarks.frame_sizes MODELS --data DATA.npz

`MODELS` is a repository of models. The labelled frames of 64x64 are brought to each size by Lanczos' filter first, so
that what differs is only how they come back.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from service.contract import FRAME_SIZE
from service.frames.decode import Picture
from service.frames.geometry import shrink
from service.frames.masks import decide
from service.versions.models import Models, Opener
from training.data.readers import read_frames
from training.scores import per_image_iou

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIZES = ((32, 32), (44, 44), (64, 64), (80, 60), (100, 100), (128, 96), (320, 240), (1280, 720))


def averaged(image: Image.Image) -> NDArray[np.uint8]:
    """What the service makes of a frame: uint8 [64,64,3]."""
    return shrink(Picture(image, *image.size), "stretch")


def boxed(image: Image.Image) -> NDArray[np.uint8]:
    """What Pillow's BOX filter makes of it."""
    return np.asarray(image.resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.BOX))


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    slot = Models(options.models, None, None, Opener("auto", None, 1, None)).load()
    frames = read_frames(options.data)
    frames = frames.take(frames.split == options.split)

    def iou(size: tuple[int, int], shrunk: Callable[[Image.Image], NDArray[np.uint8]]) -> float:
        masks = []
        for frame in frames.frames:
            image = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
            cells = slot.engine.run(shrunk(image)[None], latents=False).probability[0]
            masks.append(decide(cells, slot.manifest.threshold))
        return float(per_image_iou(np.stack(masks), frames.masks).mean())

    print(f"{slot.note.name} {slot.note.version}, {len(frames)} frames, mean IoU")
    print("| frames of | as the service averages them | by Pillow's BOX |\n|---|---|---|")
    for size in SIZES:
        print(f"| {size[0]}x{size[1]} | {iou(size, averaged):.3f} | {iou(size, boxed):.3f} |", flush=True)


if __name__ == "__main__":
    main()
