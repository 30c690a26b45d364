"""One clip: a scene is drawn, toys settle, the arm moves among them, the camera looks on.

Clip `index` of a `seed` is a pure function of the two, of the settings that shape it, and of `VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data.changes import black_border
from training.simulate import camera_effects as effects
from training.simulate.arm import Arm, draw_path
from training.simulate.errors import SimulationError
from training.simulate.randomise import draw_scene
from training.simulate.render import average, small_mask, surface_shares
from training.simulate.scene import Scene
from training.simulate.shadows import Eye, soft_shadow
from training.simulate.surfaces import Surface

if TYPE_CHECKING:
    from numpy.random import Generator

    from training.simulate.meshes import Sawyer
    from training.simulate.randomise import SceneDraw
    from training.simulate.render import Renderer

VERSION = 1
"""Goes up with every change after which the same seed gives other pictures."""

SIZE = 64
SUBSTEPS = 10
ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames uint8 [T,64,64,3], masks uint8 [T,64,64] in {0,1}, and the name of their scene."""

    frames: np.ndarray
    masks: np.ndarray
    scene: str


def simulate_clip(sawyer: Sawyer, renderer: Renderer, *, seed: int, index: int, frames: int, stride: int = 1) -> Clip:
    """Draw, play and film a clip.

    Args:
        sawyer: The arm.
        renderer: Draws at a multiple of 64 pixels.
        seed: Of the data set.
        index: Of the clip.
        frames: How many frames to film.
        stride: How many of the arm's steps lie between two of them.

    Raises:
        SimulationError: The physics blew up in all of several draws.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([VERSION, seed, index, attempt])
        draw = draw_scene(rng)
        scene = Scene(sawyer, draw, rng, renderer.size)
        film = _Film(scene, draw, Arm(sawyer, draw.arm), renderer, rng)
        pictures, masks = film.roll(frames, stride)
        if not scene.unstable:
            return Clip(pictures, masks, f"simulated-{seed}-{index:06d}")
    raise SimulationError(f"clip {index} of seed {seed}: expected stable physics, found none in {ATTEMPTS} draws")


class _Film:
    """A scene while it is being filmed."""

    def __init__(self, scene: Scene, draw: SceneDraw, arm: Arm, renderer: Renderer, rng: Generator) -> None:
        self.scene, self.draw, self.arm, self.renderer, self.rng = scene, draw, arm, renderer, rng
        self.factor = renderer.size // SIZE
        self.glare = effects.glare_fields(draw.lens, SIZE)

    def roll(self, frames: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Play the scene; frames uint8 [T,64,64,3] and masks uint8 [T,64,64]."""
        down = self.arm.pointing_down(self.draw.arm.yaw)
        path = draw_path(self.rng, (frames - 1) * stride + 2)
        above = path.tip[0] + np.array([0, 0, 0.22])
        angles = self.arm.solve(above, down, self.arm.rest, 150)
        self.scene.put_arm(*self.arm.poses(angles, path.opening[0]))
        self.scene.settle()
        angles = self._move(angles, self.arm.solve(path.tip[0], down, angles, 60), path.opening[:1].repeat(2), 25)
        self.renderer.show(self.scene)
        pictures, masks = [], []
        shutter = round(self.draw.lens.shutter * SUBSTEPS)
        for t in range((frames - 1) * stride + 1):
            filmed = t % stride == 0
            goal = self.arm.solve(path.tip[t + 1], down, angles, 12)
            if filmed:
                exposures = [self._expose()]
            first = shutter if filmed else 0
            halfway = angles + (goal - angles) * (first / SUBSTEPS)
            openings = np.interp([0, first / SUBSTEPS, 1], [0, 1], path.opening[t : t + 2])
            angles = self._move(angles, halfway, openings[:2], first)
            if filmed and shutter:
                exposures.append(self._expose())
            angles = self._move(angles, goal, openings[1:], SUBSTEPS - first)
            if filmed:
                picture, mask = self._develop(exposures)
                pictures.append(picture)
                masks.append(mask)
        self.renderer.release()
        return np.stack(pictures), np.stack(masks)

    def _move(self, start: np.ndarray, end: np.ndarray, openings: np.ndarray, steps: int) -> np.ndarray:
        """Bring the arm from some joint angles to others while time goes on; returns where it is then."""
        for i in range(1, steps + 1):
            part = i / steps
            opening = float(openings[0] + (openings[1] - openings[0]) * part)
            self.scene.put_arm(*self.arm.poses(start + (end - start) * part, opening))
            self.scene.step()
        self.scene.update()
        return end if steps else start

    def _expose(self) -> tuple[np.ndarray, np.ndarray]:
        """Light that falls on the sensor, float [64,64,3], and the share of each pixel that is robot, [64,64]."""
        view = self.renderer.view()
        data, model = self.scene.data, self.scene.model
        eye = Eye(data.cam_xpos[0], data.cam_xmat[0].reshape(3, 3), float(model.cam_fovy[0]))
        step = self.factor // 2 if self.factor % 2 == 0 else 1
        shade = soft_shadow(view, eye, self.draw.light.lean, step=step)
        picture = average(view.picture, self.factor) / 255
        picture *= 1 - self.draw.light.shade * average(shade, len(shade) // SIZE)[..., None]
        shares = surface_shares(view.surfaces, self.factor)
        return effects.add_glare(picture, self.glare, shares), shares[..., Surface.ROBOT]

    def _develop(self, exposures: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        lens = self.draw.lens
        light = np.mean([picture for picture, _ in exposures], 0)
        mask = small_mask(np.mean([share for _, share in exposures], 0))
        picture = effects.develop(light, lens, self.rng)
        if lens.border:
            picture, mask = black_border(picture), effects.extend_to_border(mask)
        return effects.copy_as(picture, lens.quality, self.rng), mask
