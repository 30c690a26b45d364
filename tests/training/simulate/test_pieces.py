"""The parts of the simulation that need neither MuJoCo's renderer nor robosuite's meshes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

pytest.importorskip("training.simulate.engine", reason="the extra 'sim' is not installed")

from training.data.changes import black_border
from training.data.frames import FrameSet
from training.simulate import camera_effects as effects
from training.simulate.compare import save_picture, side_by_side, statistics
from training.simulate.config import SimulateConfig
from training.simulate.geometry import matrix, times, turn
from training.simulate.randomise import QUALITIES, draw_scene
from training.simulate.render import View, average, small_mask, surface_shares
from training.simulate.shadows import Eye, soft_shadow
from training.simulate.surfaces import Surface
from training.simulate.toys import KINDS, draw_toy


def test_rotations_compose_as_matrices_do() -> None:
    a, b = turn((0, 0, 1), 0.7), turn((1, 2, 0), -1.1)
    assert np.allclose(matrix(times(a, b)), matrix(a) @ matrix(b))


def test_a_pixel_is_robot_where_at_least_half_of_its_area_is() -> None:
    rng = np.random.default_rng(0)
    surfaces = rng.choice([Surface.FLOOR, Surface.TOY, Surface.ROBOT], (32, 32)).astype(np.uint8)
    shares = surface_shares(surfaces, 4)
    assert np.allclose(shares.sum(-1), 1)
    assert np.allclose(shares[..., Surface.ROBOT], average(surfaces == Surface.ROBOT, 4))
    expected = [
        [(surfaces[y : y + 4, x : x + 4] == Surface.ROBOT).sum() >= 8 for x in range(0, 32, 4)] for y in range(0, 32, 4)
    ]
    assert np.array_equal(small_mask(shares[..., Surface.ROBOT]), np.array(expected))


def test_in_the_black_border_the_mask_goes_straight_on() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[1:20, 30:35] = 1
    mask[0, 50] = 1
    extended = effects.extend_to_border(mask)
    assert extended[0].tolist() == mask[1].tolist()
    assert np.array_equal(extended[1:, 1:], mask[1:, 1:])
    framed = black_border(np.full((64, 64, 3), 9, np.uint8))
    assert not framed[0].any()
    assert not framed[:, 0].any()
    assert (framed[1:, 1:] == 9).all()


@pytest.mark.parametrize("quality", list(QUALITIES))
def test_every_kind_of_copy_keeps_form_and_is_drawn_from_its_generator(quality: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    once, again = (effects.copy_as(picture, quality, np.random.default_rng(5)) for _ in range(2))
    assert once.shape == picture.shape
    assert once.dtype == np.uint8
    assert np.array_equal(once, again)
    assert np.array_equal(once, picture) == (quality == "lossless")


def test_glare_falls_only_on_its_surface() -> None:
    lens = draw_scene(np.random.default_rng(3)).lens
    shares = np.zeros((64, 64, len(Surface)))
    shares[32:, :, Surface.NEAR] = 1
    fields = dict.fromkeys((Surface.NEAR, Surface.BACK), np.full((64, 64, 3), 0.25))
    lit = effects.add_glare(np.full((64, 64, 3), 0.5), fields, shares)
    assert np.allclose(lit[:32], 0.5)
    assert np.allclose(lit[32:], 0.75)
    assert set(effects.glare_fields(lens, 16)) == set(effects.GLARE_ON)


def test_a_shadow_lies_under_what_casts_it_and_nowhere_else() -> None:
    surfaces = np.full((64, 64), Surface.FLOOR, np.uint8)
    surfaces[28:36, 28:36] = Surface.TOY
    depth = np.where(surfaces == Surface.TOY, 0.97, 1.0).astype(np.float32)
    eye = Eye(np.array([0.0, 0.3, 1.0]), np.eye(3), 40.0)
    shade = soft_shadow(View(np.zeros((64, 64, 3), np.uint8), surfaces, depth), eye, (0.0, 0.0), step=1)
    assert shade[30:34, 30:34].max() == 0, "a toy has no shadow on itself"
    assert shade[32, 26] > 0.05
    assert shade[2, 2] < 0.01
    assert shade.min() >= 0
    assert shade.max() <= 1


def test_draws_depend_on_the_generator_alone() -> None:
    assert draw_scene(np.random.default_rng(4)) == draw_scene(np.random.default_rng(4))
    assert draw_scene(np.random.default_rng(4)) != draw_scene(np.random.default_rng(5))


def test_toys_are_of_a_size_that_fits_the_bin() -> None:
    rng = np.random.default_rng(0)
    for kind, _ in KINDS:
        for _ in range(20):
            parts = kind(rng)
            assert any(part.solid for part in parts), kind.__name__
            assert all(np.abs(part.pos).max() + max(part.size) < 0.14 for part in parts), kind.__name__
            assert all(0 < c <= 1 for part in parts for c in part.colour)
    assert draw_toy(np.random.default_rng(1)) == draw_toy(np.random.default_rng(1))


def test_settings_without_a_purpose_are_refused() -> None:
    with pytest.raises(ValidationError, match="--out FOLDER"):
        SimulateConfig()


def test_statistics_and_picture_of_a_comparison(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    masks = np.zeros((24, 64, 64), np.uint8)
    masks[:, :32, :32] = 1
    figures = statistics(frames, masks)
    assert figures["arm share, %, 5/25/50/75/95th percentile"] == [25.0] * 5
    real = FrameSet(frames, masks, np.array([f"s{i // 2}" for i in range(24)]), np.full(24, ""))
    file = tmp_path / "docs" / "both.png"
    save_picture(side_by_side(frames, real), file)
    with Image.open(file) as picture:
        assert picture.width > picture.height
