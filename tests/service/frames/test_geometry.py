"""Frames shrink to what the model sees, and masks land on the very pixels they came from."""

import numpy as np
import pytest
from PIL import Image

from service.frames.decode import Picture
from service.frames.geometry import Fit, restore, restore_mask, shrink, visible_cells, window_of

SIZES = [
    (64, 64),
    (1, 1),
    (65, 63),
    (65, 64),
    (64, 65),
    (640, 639),
    (640, 480),
    (480, 640),
    (33, 17),
    (1000, 7),
    (5, 901),
    (128, 128),
    (2000, 1500),
]
FITS: list[Fit] = ["stretch", "pad", "crop"]


def picture_of(pixels: np.ndarray) -> Picture:
    return Picture(Image.fromarray(pixels), pixels.shape[1], pixels.shape[0])


def at_centres(width: int, height: int, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's centre lies in the model's plane, 0..64, worked out one by one."""
    window = window_of(width, height, fit)
    x = (np.arange(width) + 0.5 - window.left) * 64 / window.width
    y = (np.arange(height) + 0.5 - window.top) * 64 / window.height
    return x, y


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", SIZES)
def test_a_frame_of_one_colour_keeps_it_and_its_mask_has_its_size(size: tuple[int, int], fit: Fit) -> None:
    width, height = size
    seen = shrink(picture_of(np.full((height, width, 3), (200, 40, 10), np.uint8)), fit)
    assert seen.shape == (64, 64, 3)
    assert seen.dtype == np.uint8
    rows, columns = visible_cells(width, height, fit)
    middle = seen[(rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2]
    if fit != "pad" or min(size) * 64 >= max(size) * 2:  # thinner than a cell, it is mixed with the padding
        assert np.abs(middle.astype(int) - (200, 40, 10)).max() <= 1
    mask = restore(np.ones((64, 64), np.float32), width, height, fit)
    assert mask.shape == (height, width)
    x, y = at_centres(width, height, fit)
    inside_x, inside_y = (x > 0) & (x < 64), (y > 0) & (y < 64)
    assert np.allclose(mask[height // 2], inside_x, atol=1e-5)
    assert np.allclose(mask[:, width // 2], inside_y, atol=1e-5)
    assert np.isclose(mask.mean(), inside_x.mean() * inside_y.mean(), atol=1e-4)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [size for size in SIZES if min(size) >= 63])
def test_what_comes_back_is_linear_between_centres_of_cells(size: tuple[int, int], fit: Fit) -> None:
    """A plane in the model's coordinates has to come back as the same plane at every pixel's centre."""
    width, height = size
    if min(window_of(width, height, fit)[2:]) < 64:
        pytest.skip("shrinks: cells are averaged")
    ramp = ((np.arange(64) + 0.5) / 64).astype(np.float32)
    x, y = at_centres(width, height, fit)
    inside_x, inside_y = (x > 0) & (x < 64), (y > 0) & (y < 64)
    between_x, between_y = (np.clip(axis, 0.5, 63.5) / 64 for axis in (x, y))
    across = restore(np.tile(ramp, (64, 1)), width, height, fit)
    down = restore(np.tile(ramp[:, None], (1, 64)), width, height, fit)
    for row in np.flatnonzero(inside_y)[:: max(1, height // 9)]:
        assert np.abs(across[row] - between_x)[inside_x].max() < 1e-4
    for column in np.flatnonzero(inside_x)[:: max(1, width // 9)]:
        assert np.abs(down[:, column] - between_y)[inside_y].max() < 1e-4


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(640, 480), (480, 640), (321, 777), (1280, 720), (64, 64)])
def test_a_shape_that_goes_through_and_back_lands_where_it_was(size: tuple[int, int], fit: Fit) -> None:
    """Centre of mass of a disc, drawn in the frame, is found again to a twentieth of a cell."""
    width, height = size
    centre = np.array([width * 0.53, height * 0.46])
    y, x = np.mgrid[:height, :width] + 0.5
    disc = np.hypot(x - centre[0], y - centre[1]) < min(size) * 0.2
    seen = shrink(picture_of(np.where(disc[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)), fit)
    rows, columns = visible_cells(width, height, fit)
    drawn = np.zeros((64, 64), np.float32)  # without the padding, which is grey and reaches into the cells at the edge
    drawn[rows, columns] = seen[rows, columns, 0] / 255
    drawn[:, [columns.start, columns.stop - 1]] = drawn[[rows.start, rows.stop - 1]] = 0
    back = restore(drawn, width, height, fit)
    found = np.array([(back * x).sum(), (back * y).sum()]) / back.sum()
    cell = np.array(window_of(width, height, fit)[2:]) / 64
    assert np.abs((found - centre) / cell).max() < 0.05
    missed = np.mean((back >= 0.5) != disc) / disc.mean()
    assert missed < 0.06


def test_cells_are_averaged_where_a_frame_has_fewer_pixels() -> None:
    checks = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)
    assert np.allclose(restore(checks, 32, 16, "stretch"), 0.5)
    stripes = np.tile((np.arange(64) % 2).astype(np.float32), (64, 1))
    wide = restore(stripes, 640, 16, "stretch")  # enlarged across, averaged down
    assert wide.shape == (16, 640)
    assert np.ptp(wide) > 0.5
    assert np.ptp(wide, axis=0).max() < 1e-6


def test_outside_the_crop_nothing_is_robot() -> None:
    back = restore(np.ones((64, 64), np.float32), 100, 60, "crop")
    assert back[:, :20].max() == 0
    assert back[:, 20:80].min() == 1
    assert back[:, 80:].max() == 0


def test_padding_is_grey_and_in_proportion() -> None:
    seen = shrink(picture_of(np.zeros((240, 480, 3), np.uint8)), "pad")
    assert (seen[:16] == 128).all()
    assert (seen[16:48] == 0).all()
    assert (seen[48:] == 128).all()
    assert visible_cells(480, 240, "pad") == (slice(16, 48), slice(0, 64))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(32, 32), (44, 44), (60, 20), (20, 60), (63, 16), (30, 300), (12, 16000)])
def test_a_small_frame_is_interpolated_and_stays_where_it_is(size: tuple[int, int], fit: Fit) -> None:
    """Ramps across a small frame are ramps across the cells that show it, at the same places."""
    width, height = size
    window = window_of(width, height, fit)
    x, y = (np.arange(side) + 0.5 for side in size)
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.rint(20 + 200 * x / width)
    frame[..., 1] = np.rint(20 + 200 * y / height)[:, None]
    seen = shrink(picture_of(frame), fit)
    rows, columns = visible_cells(width, height, fit)
    centres_x = (np.arange(64) + 0.5) * window.width / 64 + window.left
    centres_y = (np.arange(64) + 0.5) * window.height / 64 + window.top
    step_x, step_y = 200 / width, 200 / height
    inner_x, inner_y = slice(columns.start + 6, columns.stop - 6), slice(rows.start + 6, rows.stop - 6)
    red, green = 20 + 200 * centres_x[inner_x] / width, 20 + 200 * centres_y[inner_y] / height
    assert (np.abs(seen[inner_y, inner_x, 0] - red) <= 1 + step_x / 4).all()
    assert (np.abs(seen[inner_y, inner_x, 1] - green[:, None]) <= 1 + step_y / 4).all()


def test_an_image_at_half_its_size_is_seen_like_the_whole() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC))
    half = Image.fromarray(pixels).reduce(2)
    for fit in FITS:
        whole, reduced = shrink(picture_of(pixels), fit), shrink(Picture(half, 640, 480), fit)
        assert np.abs(whole.astype(int) - reduced).mean() < 1.5


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize(
    ("width", "height"), [(64, 64), (1280, 720), (640, 480), (31, 200), (200, 31), (1, 1), (65, 63), (65, 64)]
)
def test_a_mask_restored_at_once_is_the_restored_probability_decided(fit: Fit, width: int, height: int) -> None:
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:64, 0:64]
    blob = np.exp(-(((x - 40) / 9) ** 2) - ((y - 20) / 6) ** 2)
    corner = np.zeros((64, 64))
    corner[:3, :3] = 1
    for probability in (blob, corner, corner[::-1, ::-1], rng.random((64, 64)), 0 * blob, np.eye(64), 0 * blob + 1):
        values = probability.astype(np.float32)
        expected = restore(values, width, height, fit) >= 0.37
        mask = restore_mask(values, 0.37, width, height, fit)
        whole = mask.whole()
        assert whole.shape == (height, width)
        assert (whole != expected).mean() <= 1e-5  # a pixel that lies on the threshold may round either way
        assert mask.area == whole.sum()
