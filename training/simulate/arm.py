"""How the arm stands and moves: inverse kinematics for a gripper that points down, and paths that push toys about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.simulate.engine import mujoco
from training.simulate.geometry import matrix, times, turn

if TYPE_CHECKING:
    from numpy.random import Generator

    from training.simulate.meshes import Sawyer
    from training.simulate.randomise import ArmDraw

REST = np.array([0.198, -0.451, 1.25, -1.555, -2.021, 1.604, 0.403])
"""Joint angles, radians, about which the real arm works: elbow out to the camera's left."""

FINGER_ROOT = 0.0444
"""Metres from the gripper's flange to where its fingers begin."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where the fingers' tips are, frame by frame.

    Attributes:
        tip: Metres [T,3].
        opening: Metres between the fingers [T].
    """

    tip: np.ndarray
    opening: np.ndarray


class Arm:
    """The bare kinematic chain of the arm, for one draw of its base, tilt and fingers."""

    def __init__(self, sawyer: Sawyer, draw: ArmDraw) -> None:
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        body = spec.worldbody
        for i, link in enumerate(sawyer.links):
            quat = turn((0, 0, 1), -np.pi / 2) if i == 0 else link.quat
            body = body.add_body(name=link.name, pos=draw.base if i == 0 else link.pos, quat=quat)
            body.explicitinertial, body.mass, body.inertia = True, 1.0, np.ones(3)
            if link.limits is not None:
                body.add_joint(type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0, 0, 1), range=link.limits, limited=True)
        body.add_site(name="tip", pos=(0, 0, FINGER_ROOT + draw.finger_length))
        self.names = [link.name for link in sawyer.links]
        self.draw = draw
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.rest = REST + np.asarray(draw.elbow)

    def pointing_down(self, yaw: float) -> np.ndarray:
        """The gripper's rotation: its z axis down but for the draw's tilt, turned about the vertical by `yaw`."""
        tilted = times(turn((1, 0, 0), self.draw.tilt[0]), turn((0, 1, 0), self.draw.tilt[1]))
        return times(tilted, times(turn((0, 0, 1), yaw), np.array([0.0, 1.0, 0.0, 0.0])))

    def solve(self, tip: np.ndarray, quat: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
        """Joint angles [7] that bring the tip to a place and rotation, by damped least squares from `start`.

        What freedom is left draws the elbow towards its resting angles.
        """
        model, data = self.model, self.data
        lower, upper = model.jnt_range.T
        data.qpos[:] = start
        along, about = np.zeros((3, 7)), np.zeros((3, 7))
        here, back, step = np.zeros(4), np.zeros(4), np.zeros(4)
        error = np.zeros(6)
        for _ in range(steps):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            error[:3] = tip - data.site_xpos[0]
            mujoco.mju_mat2Quat(here, data.site_xmat[0])
            mujoco.mju_negQuat(back, here)
            mujoco.mju_mulQuat(step, quat, back)
            mujoco.mju_quat2Vel(error[3:], step, 1.0)
            if np.abs(error[:3]).max() < 1e-4 and np.abs(error[3:]).max() < 1e-3:
                break
            mujoco.mj_jacSite(model, data, along, about, 0)
            jacobian = np.concatenate([along, about])
            inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-4 * np.eye(6))
            move = inverse @ error + (np.eye(7) - inverse @ jacobian) @ (0.1 * (self.rest - data.qpos))
            data.qpos[:] = np.clip(data.qpos + np.clip(move, -0.3, 0.3), lower, upper)
        angles: np.ndarray = data.qpos.copy()
        return angles

    def poses(self, angles: np.ndarray, opening: float) -> tuple[np.ndarray, np.ndarray]:
        """Where all bodies of the arm are: links in order, then the two fingers.

        Returns:
            Positions [L+2,3] in metres, and rotations [L+2,4].
        """
        self.data.qpos[:] = angles
        mujoco.mj_kinematics(self.model, self.data)
        places, quats = self.data.xpos[1:], self.data.xquat[1:]
        axes, root = matrix(quats[-1]), places[-1]
        fingers = [root + axes @ np.array([0, side * opening / 2, FINGER_ROOT]) for side in (1, -1)]
        return np.concatenate([places, fingers]), np.concatenate([quats, quats[-1:], quats[-1:]])


def draw_path(rng: Generator, frames: int) -> Path:
    """A path as the real ones are: random steps near the floor, held for two frames, now and then a lift."""
    low, reach = np.array([-0.24, -0.03]), np.array([0.25, 0.46])
    at = np.array([rng.uniform(low[0], reach[0]), low[1] + (reach[1] - low[1]) * rng.beta(1.15, 1.35), 0.0])
    floor_height = rng.choice([rng.uniform(0.005, 0.05), rng.uniform(0.05, 0.12)], p=[0.8, 0.2])
    at[2] = floor_height if rng.random() < 0.75 else rng.uniform(0.05, 0.15)
    opening = target = rng.uniform(0.0, 0.045)
    pace = rng.uniform(0.012, 0.03)
    velocity, lifted = np.zeros(2), 0
    tips, openings = [], []
    for t in range(frames):
        tips.append(at.copy())
        openings.append(opening)
        if t % 2 == 0:
            velocity = 0.45 * velocity + rng.normal(0, pace, 2)
        if lifted == 0 and rng.random() < 0.05:
            lifted = int(rng.integers(3, 8))
        height = rng.uniform(0.08, 0.15) if lifted else floor_height
        lifted = max(0, lifted - 1)
        if rng.random() < 0.07:
            target = rng.uniform(0.0, 0.045)
        opening += 0.5 * (target - opening)
        at[2] += 0.45 * (height - at[2])
        at[:2] += velocity
        outside = (at[:2] < low) | (at[:2] > reach)
        velocity[outside] *= -0.6
        at[:2] = np.clip(at[:2], low, reach)
    return Path(np.array(tips), np.array(openings))
