"""Computes the small golden set of the frame encoder that the repository carries, with numpy alone.

    python tests/training/videogpt/make_own_golden.py

An implementation apart from ours: convolutions as sums of shifted products, weights from a rule on their names.
"""

import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "own" / "frame_encoder.npz"
LAYERS, DIM, STRIDE = (2, 1, 1, 1), 12, (1, 4, 4)


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a parameter, float32; any name and shape will do."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    if len(shape) == 1:
        value = draw + 0.5 if name.endswith("weight") else (draw - 0.5) * 0.4
    else:
        value = (draw - 0.5) * 2 * np.sqrt(3 / np.prod(shape[1:]))
    return value.astype(np.float32)


def conv(x: np.ndarray, name: str, c_out: int, taps: int, stride: tuple[int, ...]) -> np.ndarray:
    """[C, T, H, W] -> [C_out, T', H', W'], zero padding taps // 2, no bias."""
    weight = parameter(f"{name}.weight", (c_out, x.shape[0], taps, taps, taps)).astype(np.float64)
    pad = taps // 2
    sizes = [(n + 2 * pad - taps) // s + 1 for n, s in zip(x.shape[1:], stride, strict=True)]
    padded = np.pad(x, ((0, 0), *[(pad, pad)] * 3))
    out = np.zeros((c_out, *sizes))
    for t, h, w in np.ndindex(taps, taps, taps):
        window = [slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip((t, h, w), sizes, stride, strict=True)]
        out += np.einsum("oc,cthw->othw", weight[:, :, t, h, w], padded[:, window[0], window[1], window[2]])
    return out


def norm(x: np.ndarray, name: str) -> np.ndarray:
    """Layer normalisation over the channels of [C, T, H, W]."""
    scale = parameter(f"{name}.norm.norm.weight", x.shape[:1])[:, None, None, None]
    shift = parameter(f"{name}.norm.norm.bias", x.shape[:1])[:, None, None, None]
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * scale + shift


def block(x: np.ndarray, name: str, width: int, stride: tuple[int, ...], *, start: bool) -> np.ndarray:
    """A residual block whose branch is rectified before and after it is added."""
    branch = np.maximum(norm(conv(x, f"{name}.conv1", width, 3, stride), f"{name}.bnr1"), 0)
    branch = np.maximum(norm(conv(branch, f"{name}.conv2", width, 3, (1, 1, 1)), f"{name}.bnr2"), 0)
    shortcut = norm(conv(x, f"{name}.proj_conv", width, 1, stride), f"{name}.proj_bnr") if start else x
    return np.maximum(branch + shortcut, 0)


def encode(frames: np.ndarray) -> np.ndarray:
    """[3, T, H, W] -> [T, H/4, W/4, DIM]."""
    x = np.maximum(norm(conv(frames, "stem.0", 64, 3, (1, 1, 1)), "stem.1"), 0)
    strides = [(1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 1, 1)]
    for group, (n, width, stride) in enumerate(zip(LAYERS, (64, 128, 256, DIM), strides, strict=True), 1):
        x = block(x, f"group{group}.start_block", width, stride, start=True)
        for j in range(n - 1):
            x = block(x, f"group{group}.blocks.{j}", width, (1, 1, 1), start=False)
    return np.moveaxis(x, 0, -1)


def main() -> None:
    """Write the file."""
    rng = np.random.RandomState(7)
    clip = (rng.random_sample((3, 3, 12, 20)) - 0.5).astype(np.float32)
    FILE.parent.mkdir(exist_ok=True)
    frame = clip[:, :1]
    np.savez_compressed(
        FILE,
        clip=clip,
        clip_latents=encode(clip).astype(np.float32),
        frame=frame,
        frame_latents=encode(frame).astype(np.float32),
    )


if __name__ == "__main__":
    main()
