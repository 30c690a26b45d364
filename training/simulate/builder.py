"""The bin, its surroundings, lamps, camera, toys and the arm's bodies, put together part by part.

World: z up, metres; the bin's floor is at z = 0, its near edge at y = 0; the camera stands before it (y < 0) and looks
down along +y; the arm stands behind the far wall and reaches towards the camera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.simulate import textures
from training.simulate.engine import mujoco
from training.simulate.geometry import any_rotation, times, turn
from training.simulate.surfaces import BIN_DEPTH, BIN_WIDTH, COLLIDER, SHOWN, Surface
from training.simulate.toys import VARIANTS, draw_toy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

    from training.simulate.meshes import Sawyer
    from training.simulate.randomise import ArmDraw, BinDraw, CameraDraw, LightDraw, SceneDraw

TIME_STEP = 0.005

FORMS = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
}


class Builder:
    """Collects a scene part by part; every geom says what surface it belongs to."""

    def __init__(self, sawyer: Sawyer, draw: SceneDraw, rng: Generator, size: int) -> None:
        self.spec = mujoco.MjSpec()
        self.world = self.spec.worldbody
        self.count = 0
        self.rng = rng
        self._settings(size, sawyer)
        self._lights(draw.light)
        self._camera(draw.camera)
        self._materials(draw.bin, draw.arm)
        self._bin(draw.bin)
        self._surroundings(draw.bin)
        self._arm(sawyer, draw.arm)
        self._toys(draw.toys)

    def geom(self, surface: Surface, body: Any = None, *, solid: bool = False, **options: Any) -> Any:
        """Add a geom; one that is not solid touches nothing."""
        self.count += 1
        name = f"{surface.name}/{self.count}"
        touch = {} if solid else {"contype": 0, "conaffinity": 0}
        return (body or self.world).add_geom(**{"name": name, "group": SHOWN, **touch, **options})

    def box(self, size: Sequence[float], pos: Sequence[float], colour: np.ndarray, **options: Any) -> Any:
        """Add a box of one colour to what is outside the bin."""
        rgba = (*np.clip(colour, 0, 1), 1)
        return self.geom(Surface.OUTSIDE, type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=pos, rgba=rgba, **options)

    def _settings(self, size: int, sawyer: Sawyer) -> None:
        spec = self.spec
        spec.compiler.degree = False
        spec.compiler.boundmass, spec.compiler.boundinertia = 5e-4, 1e-6
        spec.meshdir = str(sawyer.folder)
        option = spec.option
        option.timestep, option.integrator = TIME_STEP, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        option.iterations, option.ls_iterations = 8, 6
        visual = spec.visual
        visual.quality.shadowsize, visual.quality.offsamples = 512, 0
        visual.quality.numslices, visual.quality.numstacks = 14, 8
        visual.map.znear, visual.map.zfar, visual.map.shadowclip = 0.02, 8, 1
        visual.global_.offwidth = visual.global_.offheight = size
        default = spec.default.geom
        default.condim, default.density = 3, 250
        default.friction, default.solref = (0.6, 0.01, 0.001), (0.012, 1)

    def _lights(self, light: LightDraw) -> None:
        tint = np.array(light.tint)
        head = self.spec.visual.headlight
        head.ambient, head.diffuse, head.specular = np.clip(light.ambient * tint, 0, 1), (0, 0, 0), (0, 0, 0)
        x, y = light.key_at
        window = np.array([0.92, 1.0, 1.12])
        for pos, aim, colour, specular, shadow in (
            ((x, y, 1.6), (-0.6 * x, 0.6 * (BIN_DEPTH / 2 - y), -1.6), light.key * tint, 0.15, light.hard),
            ((0, BIN_DEPTH + 1.2, 0.9), (0, -1, -0.55), light.window * window, 0.5, False),
            ((0, -1, 1.2), (0, 1, -1), np.full(3, light.fill), 0.0, False),
        ):
            self.world.add_light(
                pos=pos,
                dir=aim,
                type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
                diffuse=np.clip(colour, 0, 1),
                specular=np.full(3, specular),
                castshadow=shadow,
            )

    def _camera(self, camera: CameraDraw) -> None:
        pitch, pan, roll = np.deg2rad([90 - camera.pitch, camera.pan, camera.roll])
        quat = times(turn((0, 0, 1), pan), times(turn((1, 0, 0), pitch), turn((0, 0, 1), roll)))
        self.world.add_camera(name="camera", pos=camera.pos, quat=quat, fovy=camera.fovy)

    def _texture(self, name: str, picture: np.ndarray, *, cube: bool = False) -> None:
        kind = mujoco.mjtTexture.mjTEXTURE_CUBE if cube else mujoco.mjtTexture.mjTEXTURE_2D
        height, width = picture.shape[:2]
        data = textures.to_bytes(picture).tobytes()
        texture = self.spec.add_texture(name=name, type=kind, height=height, width=width, nchannel=3)
        texture.data = data

    def _material(self, name: str, *, shine: float, shininess: float = 0.3, **options: Any) -> None:
        texture = options.pop("texture", None)
        material = self.spec.add_material(name=name, specular=shine, shininess=shininess, **options)
        if texture is not None:
            material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture

    def _materials(self, draw: BinDraw, arm: ArmDraw) -> None:
        rng, boards = self.rng, np.asarray(draw.wood)
        faces = {"FLOOR": 1.0} | dict(zip(("NEAR", "LEFT", "RIGHT", "BACK"), draw.walls, strict=True))
        for face, factor in faces.items():
            warm = np.array([1.04, 1.0, 0.9]) if face in {"RIGHT", "BACK"} else np.ones(3)
            grain = draw.grain * (0.5 if face == "NEAR" else 1.0)
            self._texture(face, textures.wood(rng, boards * warm * factor, grain, across=face == "NEAR"))
            self._material(face, texture=face, shine=0.12, shininess=0.2)
        self._texture("ground", textures.wood(rng, draw.ground, 0.15))
        self._material("ground", texture="ground", shine=0.1)
        self._material("plain", shine=rng.uniform(0.05, 0.3))
        self._material("glossy", shine=rng.uniform(0.4, 0.9), shininess=0.5)
        for i in range(VARIANTS):
            dark, bright = rng.uniform(0.02, 0.15, 3) * [1.1, 1, 0.9], rng.uniform(0.75, 1.0) * np.ones(3)
            if rng.random() < 0.2:
                bright = np.array([0.9, 0.6, 0.25])
            prints = np.concatenate([rng.random((3, 3)), [[0.95, 0.95, 0.92], [0.08, 0.07, 0.07]]])
            for surface, picture in (
                ("fur", textures.fur(rng, rng.uniform(0.6, 1.6))),
                ("blots", textures.blots(rng, dark, bright, rng.uniform(7, 15), rng.uniform(0.2, 0.5))),
                ("print", textures.patchwork(rng, rng.permuted(prints, axis=0), int(rng.integers(3, 8)))),
            ):
                self._texture(f"{surface}{i}", picture, cube=True)
                self._material(f"{surface}{i}", texture=f"{surface}{i}", shine=0.0 if surface != "print" else 0.2)
        light = np.full(3, arm.light)
        for paint, colour in (
            ("black", arm.black),
            ("crimson", arm.crimson),
            ("light", light),
            ("white", light * 0.95),
        ):
            self._material(f"arm {paint}", shine=arm.shine, shininess=0.35, rgba=(*colour, 1))

    def _bin(self, draw: BinDraw) -> None:
        half, depth, thick = BIN_WIDTH / 2, BIN_DEPTH, 0.006
        box = mujoco.mjtGeom.mjGEOM_BOX
        self.geom(
            Surface.FLOOR,
            solid=True,
            type=box,
            size=(half, depth / 2, thick),
            pos=(0, depth / 2, -thick),
            material="FLOOR",
        )
        side, back = 0.30, draw.back_length
        for surface, start, end, length, flare in (
            (Surface.NEAR, (-half - 0.12, 0), (half + 0.12, 0), draw.near_length, draw.flare),
            (Surface.RIGHT, (half, 0), (half, depth), side, draw.flare),
            (Surface.LEFT, (-half, depth), (-half, 0), side, draw.flare),
            (Surface.BACK, (half, depth), (-half, depth), back, np.pi / 4),
        ):
            a, b = np.array([*start, 0.0]), np.array([*end, 0.0])
            along = (b - a) / np.linalg.norm(b - a)
            outward = np.cross(along, [0, 0, 1.0])
            up = np.cos(flare) * outward + np.sin(flare) * np.array([0, 0, 1.0])
            normal = np.cross(along, up)
            middle = (a + b) / 2 + up * length / 2 - np.sign(normal[2]) * normal * thick
            quat = np.zeros(4)
            mujoco.mju_mat2Quat(quat, np.stack([along, up, normal], 1).ravel())
            size = (float(np.linalg.norm(b - a)) / 2, length / 2, thick)
            self.geom(surface, solid=True, type=box, size=size, pos=middle, quat=quat, material=surface.name)
        lean = np.array([np.cos(draw.flare), np.sin(draw.flare)])
        for hand in (1, -1):  # the grey plates that close the far corners, each folded once
            corner = np.array([hand * half, depth, 0.0])
            on_side = corner + side * np.array([hand * lean[0], 0, lean[1]])
            on_back = corner + back * np.array([0, np.sqrt(0.5), np.sqrt(0.5)])
            fold = (on_side + on_back) / 2 + np.array([hand * 0.035, 0.035, 0.0])
            for n, points in enumerate(((corner, on_side, fold), (corner, fold, on_back))):
                grey = draw.gusset * (1.0, 0.86)[n] * np.array([0.94, 1.04, 1.08])
                self._triangle(f"plate {hand} {n}", np.array(points), np.clip(grey, 0, 1))

    def _triangle(self, name: str, points: np.ndarray, colour: np.ndarray) -> None:
        normal = np.cross(points[1] - points[0], points[2] - points[0])
        normal *= -np.sign(normal[2]) / np.linalg.norm(normal)
        corners = np.concatenate([points, points + normal * 0.008])
        mesh = self.spec.add_mesh(name=name, uservert=corners.ravel())
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
        self.geom(Surface.PLATE, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, rgba=(*colour, 1))

    def _surroundings(self, draw: BinDraw) -> None:
        """Lip, legs and floor below the bin; brackets beside it; behind it a wall, clutter, the arm's stand."""
        rng = self.rng
        y, z = -draw.near_length * np.cos(draw.flare), draw.near_length * np.sin(draw.flare)
        self.box((0.6, 0.006, 0.010), (0, y - 0.003, z - 0.010), np.array(draw.lip))
        self.geom(
            Surface.OUTSIDE, type=mujoco.mjtGeom.mjGEOM_PLANE, size=(3, 3, 0.1), pos=(0, 0, -0.75), material="ground"
        )
        leg = np.array(draw.lip) * rng.uniform(0.85, 1.1)
        for place, slant in ((-0.068, -0.16), (0.080, 0.16)):
            x = place + rng.normal(0, 0.003)
            self.box(
                (0.0085, 0.008, 0.3),
                (x + slant * 0.1, y - 0.012, z - 0.32),
                leg,
                quat=turn((0, 1, 0), -slant),
            )
        for hand in (1, -1):
            blue = np.array([0.12, 0.16, 0.22]) * rng.uniform(0.5, 1.5)
            self.box((0.02, 0.012, 0.012), (hand * (BIN_WIDTH / 2 + 0.03), 0.0, 0.012), blue)
        for _ in range(draw.clutter):
            size = (rng.uniform(0.02, 0.2), 0.02, rng.uniform(0.05, 0.3))
            pos = (rng.uniform(-0.8, 0.8), BIN_DEPTH + rng.uniform(0.3, 0.9), rng.uniform(-0.3, 0.1))
            self.box(size, pos, rng.uniform(0.03, 0.8) * np.array([1, 1, 1.05]))
        for _ in range(draw.rim):
            height = rng.uniform(0.005, 0.05)
            pos = (rng.uniform(-0.55, 0.55), BIN_DEPTH + rng.uniform(0.115, 0.16), 0.085 + height)
            dark = rng.uniform(0.02, 0.35) * (1 + 0.3 * rng.standard_normal(3))
            self.box((rng.uniform(0.01, 0.09), 0.01, height), pos, dark)
        red = np.array([0.32, 0.07, 0.07]) * rng.uniform(0.6, 1.4)
        stand = (rng.normal(0.03, 0.05), BIN_DEPTH + rng.uniform(0.32, 0.5), -0.1)
        self.box((rng.uniform(0.06, 0.14), 0.05, 0.3), stand, red)
        self.box((2, 0.02, 1), (0, BIN_DEPTH + 1.5, 0.2), np.full(3, draw.backdrop))

    def _arm(self, sawyer: Sawyer, draw: ArmDraw) -> None:
        """One body a link, moved from outside; meshes to see, simple shapes to touch."""
        cylinder, capsule = mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE
        bodies = {link.name: self.world.add_body(name=link.name, mocap=True) for link in sawyer.links}
        for part in sawyer.parts:
            mesh = self.spec.add_mesh(name=part.name, file=f"{part.name}.stl")
            mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
            self.geom(
                Surface.ROBOT,
                bodies[part.link],
                type=mujoco.mjtGeom.mjGEOM_MESH,
                meshname=part.name,
                pos=part.pos,
                quat=part.quat,
                material=f"arm {part.paint}",
            )
        hand = bodies["right_l6"]
        # The ring between wrist and hand, and the black neck above the gripper: both missing in the meshes.
        self.geom(
            Surface.ROBOT, hand, type=cylinder, size=(0.0445, 0.009, 0), pos=(0, 0, -0.048), material="arm crimson"
        )
        neck = bodies["right_hand"]
        self.geom(Surface.ROBOT, neck, type=cylinder, size=(0.036, 0.022, 0), pos=(0, 0, 0.0), material="arm black")
        self._extras(draw, hand, bodies["right_l4"])
        touch: dict[str, Any] = {"contype": 2, "conaffinity": 1, "group": COLLIDER}
        self.geom(Surface.ROBOT, hand, type=cylinder, size=(0.055, 0.025, 0), pos=(0, 0.015, -0.01), **touch)
        self.geom(
            Surface.ROBOT, bodies["gripper_base"], type=cylinder, size=(0.029, 0.05, 0), pos=(0.004, 0, 0.04), **touch
        )
        size = (draw.finger_width / 2, draw.finger_depth / 2, draw.finger_length / 2)
        for side in (1, -1):
            finger = self.world.add_body(name=f"finger {side}", mocap=True)
            middle = (0, side * draw.finger_depth / 2, draw.finger_length / 2)
            box = mujoco.mjtGeom.mjGEOM_BOX
            self.geom(
                Surface.ROBOT, finger, type=box, size=size, pos=middle, material="arm black", contype=2, conaffinity=1
            )
            foot = (0, side * 0.012, 0.006)
            self.geom(Surface.ROBOT, finger, type=box, size=(0.011, 0.016, 0.010), pos=foot, material="arm black")
            self.geom(
                Surface.ROBOT,
                finger,
                type=capsule,
                fromto=(0, side * 0.004, draw.finger_length - 0.02, 0, side * 0.002, draw.finger_length - 0.004),
                size=(0.006, 0, 0),
                material="arm black",
            )

    def _extras(self, draw: ArmDraw, hand: Any, forearm: Any) -> None:
        """The light knob on the cuff, light bits under it, a cable."""
        rng = self.rng
        ellipsoid, capsule = mujoco.mjtGeom.mjGEOM_ELLIPSOID, mujoco.mjtGeom.mjGEOM_CAPSULE
        for pos, radius in (((0, 0.062, -0.044), draw.knob), ((0.01, 0.052, 0.012), draw.knob * rng.uniform(0.2, 0.5))):
            size = radius * rng.uniform(0.8, 1.1, 3)
            place = np.array(pos) + rng.normal(0, 0.003, 3)
            self.geom(Surface.ROBOT, hand, type=ellipsoid, size=size, pos=place, material="arm light")
        if draw.cable:
            x, y = 0.05 * rng.choice([-1, 1]), rng.uniform(-0.03, 0.03)
            paint = "arm black" if rng.random() < 0.7 else "arm light"
            self.geom(
                Surface.ROBOT,
                forearm,
                type=capsule,
                fromto=(x, y, 0.05, x, y, 0.28),
                size=(0.006, 0, 0),
                material=paint,
            )

    def _toys(self, count: int) -> None:
        rng = self.rng
        clumps = rng.uniform([-0.7, 0.15], [0.7, 0.9], (3, 2)) * [BIN_WIDTH / 2, BIN_DEPTH]
        clumps[0, 1] = BIN_DEPTH * rng.uniform(0.75, 0.95)
        for i in range(count):
            if rng.random() < 0.45:
                x, y = clumps[rng.integers(3)] + rng.normal(0, 0.05, 2)
            else:
                x, y = rng.uniform(-1.15, 1.15) * BIN_WIDTH / 2, BIN_DEPTH * rng.beta(2.2, 1.1)
            x, y = np.clip(x, -0.3, 0.3), np.clip(y, 0.03, BIN_DEPTH - 0.02)
            quat = turn((0, 0, 1), rng.uniform(0, 2 * np.pi)) if rng.random() < 0.5 else any_rotation(rng)
            body = self.world.add_body(name=f"toy {i}", pos=(x, y, 0.05 + 0.045 * (i % 7)), quat=quat)
            body.add_freejoint()
            for part in draw_toy(rng):
                material = part.surface if part.surface in {"plain", "glossy"} else f"{part.surface}{part.variant}"
                size = np.zeros(3)
                size[: len(part.size)] = part.size
                self.geom(
                    Surface.TOY,
                    body,
                    solid=part.solid,
                    type=FORMS[part.form],
                    size=size,
                    pos=part.pos,
                    quat=part.quat,
                    material=material,
                    rgba=(*part.colour, 1),
                    **({} if part.solid else {"mass": 1e-3}),
                )
