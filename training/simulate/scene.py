"""A compiled scene, and what happens in it: toys fall and are pushed, the arm is moved from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.simulate.builder import Builder
from training.simulate.engine import mujoco
from training.simulate.surfaces import BIN_DEPTH, BIN_WIDTH, Surface

if TYPE_CHECKING:
    from numpy.random import Generator

    from training.simulate.meshes import Sawyer
    from training.simulate.randomise import SceneDraw


class Scene:
    """A compiled scene whose arm is moved from outside and whose toys fall, roll and are pushed.

    Attributes:
        model: MuJoCo's model.
        data: Its state.
        surfaces: uint8 [geoms], the `Surface` of each.
    """

    def __init__(self, sawyer: Sawyer, draw: SceneDraw, rng: Generator, size: int) -> None:
        self.model = Builder(sawyer, draw, rng, size).spec.compile()
        self.data = mujoco.MjData(self.model)
        names = [self.model.geom(i).name.split("/")[0] for i in range(self.model.ngeom)]
        self.surfaces = np.array([Surface[name] for name in names], np.uint8)
        self.toys = draw.toys

    @property
    def unstable(self) -> bool:
        """Whether the physics has blown up; such a scene is not to be used."""
        bad = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
        return any(self.data.warning[int(kind)].number for kind in bad)

    def put_arm(self, places: np.ndarray, quats: np.ndarray) -> None:
        """Set the arm's bodies [L+2,3] and [L+2,4], links first, then fingers."""
        self.data.mocap_pos[:] = places
        self.data.mocap_quat[:] = quats

    def step(self) -> None:
        """Let one time step pass."""
        mujoco.mj_step(self.model, self.data)

    def settle(self, steps: int = 150) -> None:
        """Let the toys fall and lie still; what fell out of the bin is put out of sight."""
        for _ in range(steps):
            self.step()
            self.data.qvel *= 0.985
        for i in range(self.toys):
            joint = int(self.model.body(f"toy {i}").jntadr[0])
            start, speed = int(self.model.jnt_qposadr[joint]), int(self.model.jnt_dofadr[joint])
            x, y, z = self.data.qpos[start : start + 3]
            if z < -0.02 or not -0.05 < y < BIN_DEPTH + 0.05 or abs(x) > BIN_WIDTH / 2 + 0.08:
                self.data.qpos[start : start + 3] = (5 + i, 0, -0.6)
                self.data.qvel[speed : speed + 6] = 0
        self.update()

    def update(self) -> None:
        """Bring positions of bodies, lights and camera up to date for drawing."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
