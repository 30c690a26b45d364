"""Pictures and exact masks: MuJoCo's renderer at several times the wanted size, averaged down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from training.simulate.engine import mujoco
from training.simulate.errors import SimulationError
from training.simulate.surfaces import SHOWN, Surface

if TYPE_CHECKING:
    from training.simulate.scene import Scene

MAX_GEOMS = 800

NO_BACK_END = (
    "expected a way to render without a display, found none ({}): install libegl1 and set MUJOCO_GL=egl, "
    "or libosmesa6 and MUJOCO_GL=osmesa, before Python starts"
)


@dataclass(frozen=True, slots=True)
class View:
    """What the camera sees, at the renderer's size.

    Attributes:
        picture: uint8 [S,S,3], RGB.
        surfaces: uint8 [S,S], the `Surface` of each pixel.
        depth: float32 [S,S], metres along the viewing axis.
    """

    picture: np.ndarray
    surfaces: np.ndarray
    depth: np.ndarray

    @property
    def robot(self) -> np.ndarray:
        """The arm, bool [S,S], as the renderer's own segmentation has it."""
        robot: np.ndarray = self.surfaces == Surface.ROBOT
        return robot


class Renderer:
    """Draws scenes, all in one off-screen context of `size` x `size` pixels."""

    def __init__(self, size: int) -> None:
        self.size = size
        try:
            self.window = mujoco.GLContext(size, size)
            self.window.make_current()
        except Exception as error:  # each back end fails in its own way
            raise SimulationError(NO_BACK_END.format(error)) from error
        self.viewport = mujoco.MjrRect(0, 0, size, size)
        self.options = mujoco.MjvOption()
        self.options.geomgroup[:] = [group == SHOWN for group in range(6)]
        self.options.sitegroup[:] = 0
        self.picture = np.zeros((size, size, 3), np.uint8)
        self.codes = np.zeros((size, size, 3), np.uint8)
        self.depth = np.zeros((size, size), np.float32)
        self.scene: Scene | None = None
        self.context: Any = None

    def show(self, scene: Scene) -> None:
        """Upload a scene's meshes and textures."""
        self.release()
        self.scene = scene
        try:
            self.context = mujoco.MjrContext(scene.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except mujoco.FatalError as error:
            raise SimulationError(NO_BACK_END.format(error)) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.visible = mujoco.MjvScene(scene.model, MAX_GEOMS)
        self.camera = mujoco.MjvCamera()
        self.camera.type, self.camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0

    def release(self) -> None:
        """Free what `show` uploaded."""
        self.window.make_current()
        if self.context is not None:
            self.context.free()
        self.scene = self.context = None

    def close(self) -> None:
        """Free everything."""
        self.release()
        self.window.free()

    def view(self) -> View:
        """Draw the scene as it is now."""
        scene, visible = self.scene, self.visible
        if scene is None:
            raise RuntimeError("expected a scene to draw, got none: call show() first")
        flag, every = mujoco.mjtRndFlag, mujoco.mjtCatBit.mjCAT_ALL
        codes, shadow = [int(flag.mjRND_SEGMENT), int(flag.mjRND_IDCOLOR)], int(flag.mjRND_SHADOW)
        mujoco.mjv_updateScene(scene.model, scene.data, self.options, None, self.camera, every, visible)
        visible.flags[codes], visible.flags[shadow] = 0, 1
        mujoco.mjr_render(self.viewport, visible, self.context)
        mujoco.mjr_readPixels(self.picture, self.depth, self.viewport, self.context)
        visible.flags[codes], visible.flags[shadow] = 1, 0
        mujoco.mjr_render(self.viewport, visible, self.context)
        mujoco.mjr_readPixels(self.codes, None, self.viewport, self.context)
        return View(self.picture[::-1].copy(), self._surfaces()[::-1], self._metres()[::-1])

    def _surfaces(self) -> np.ndarray:
        """Decode the segment numbers, which the renderer paints as colours, 0 being none."""
        red, green = self.codes[..., 0].astype(np.uint16), self.codes[..., 1].astype(np.uint16)
        table = np.zeros(self.visible.ngeom + 1, np.uint8)
        for i in range(self.visible.ngeom):
            geom = self.visible.geoms[i]
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                table[geom.segid + 1] = self.scene.surfaces[geom.objid]  # type: ignore[union-attr]  # view() checked
        surfaces: np.ndarray = table[np.minimum(red + (green << 8), len(table) - 1)]
        return surfaces

    def _metres(self) -> np.ndarray:
        model = self.scene.model  # type: ignore[union-attr]  # view() checked
        near, far = model.vis.map.znear * model.stat.extent, model.vis.map.zfar * model.stat.extent
        metres: np.ndarray = near / (1 - self.depth * (1 - near / far))
        return metres


def average(picture: np.ndarray, factor: int) -> np.ndarray:
    """Mean of blocks of `factor` x `factor` pixels; [H,W,...] to float32 [H/factor,W/factor,...].

    >>> average(np.array([[0, 2], [4, 6]]), 2).tolist()
    [[3.0]]
    """
    height, width = picture.shape[:2]
    if picture.dtype == np.uint8 and factor * factor <= 256:  # whole numbers may be added in any order: in the quickest
        rows = picture[::factor].astype(np.uint16)
        for i in range(1, factor):
            rows += picture[i::factor]
        total = rows[:, ::factor].copy()
        for i in range(1, factor):
            total += rows[:, i::factor]
        exact: np.ndarray = total.astype(np.float32) / np.float32(factor * factor)
        return exact
    blocks = picture.reshape(height // factor, factor, width // factor, factor, *picture.shape[2:])
    mean: np.ndarray = blocks.mean((1, 3), dtype=np.float32)
    return mean


def surface_shares(surfaces: np.ndarray, factor: int) -> np.ndarray:
    """Which part of every block of `factor` x `factor` pixels each surface covers.

    Args:
        surfaces: uint8 [H,W], values of `Surface`.
        factor: Pixels along a block's side.

    Returns:
        float [H/factor,W/factor,9], adding to one over the last axis.
    """
    height, width = surfaces.shape[0] // factor, surfaces.shape[1] // factor
    kinds = len(Surface)
    rows = np.arange(height * factor) // factor * width
    blocks = rows[:, None] + np.arange(width * factor) // factor
    counts = np.bincount((blocks * kinds + surfaces).ravel(), minlength=height * width * kinds)
    shares: np.ndarray = counts.reshape(height, width, kinds) / factor**2
    return shares


def small_mask(share: np.ndarray) -> np.ndarray:
    """The mask uint8 of pixels of which at least half is robot, given the share of each that is.

    >>> small_mask(np.array([0.0, 0.49, 0.5, 1.0])).tolist()
    [0, 0, 1, 1]
    """
    return (share >= 0.5).astype(np.uint8)
