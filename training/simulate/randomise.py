"""What differs from scene to scene: typed draws, each a pure function of the generator it is given.

The middle of every range was read off real pictures (colours, camera, share of the picture that is arm); the ranges are
wider than what is seen there, so that real pictures lie inside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

Quality = Literal["lossless", "palette", "video", "averaged", "dither", "stamped"]

QUALITIES: dict[Quality, float] = {
    "lossless": 0.25,
    "palette": 0.2,
    "video": 0.25,
    "averaged": 0.1,
    "dither": 0.1,
    "stamped": 0.1,
}
"""How copies of the real set went through the world, and how often a clip gets each."""


@dataclass(frozen=True, slots=True)
class CameraDraw:
    """Where the camera stands (metres, degrees) and how it opens (vertical degrees)."""

    pos: tuple[float, float, float]
    pitch: float
    pan: float
    roll: float
    fovy: float


@dataclass(frozen=True, slots=True)
class BinDraw:
    """The bin and what stands about it; colours are RGB 0..1.

    Attributes:
        wood: Floor colour; the walls vary about it.
        walls: Factors on the wood for the near, left, right and back wall.
        grain: Contrast of the grain.
        flare: Radians by which the side walls stand up.
        near_length: Metres of the near wall, floor to lip.
        back_length: Metres of the back wall, floor to rim.
        gusset: Grey of the corner plates.
        lip: Colour of the near wall's edge.
        ground: Colour of what is under the bin.
        backdrop: Grey of the wall behind.
        clutter: How many things stand behind the bin.
        rim: How many things stand against its far edge.
    """

    wood: tuple[float, float, float]
    walls: tuple[float, float, float, float]
    grain: float
    flare: float
    near_length: float
    back_length: float
    gusset: float
    lip: tuple[float, float, float]
    ground: tuple[float, float, float]
    backdrop: float
    clutter: int
    rim: int


@dataclass(frozen=True, slots=True)
class LightDraw:
    """Lamps and windows; strengths are shares of full white.

    Attributes:
        ambient: From everywhere.
        key: One lamp above, at `key_at` (metres from the middle of the bin).
        key_at: Where the lamp hangs over the bin, x and y.
        window: Light from behind the bin, cold.
        fill: Light from the camera's side.
        tint: Colour of ambient and key.
        hard: Whether the key's shadow has a sharp edge as well.
        shade: How dark the soft shadows are.
        lean: Metres of shadow shift per metre of height, x and y.
    """

    ambient: float
    key: float
    key_at: tuple[float, float]
    window: float
    fill: float
    tint: tuple[float, float, float]
    hard: bool
    shade: float
    lean: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ArmDraw:
    """The arm: where it stands, how it is painted, what is fixed to it.

    Attributes:
        base: Metres.
        yaw: Radians of the gripper about the vertical.
        tilt: Radians of the gripper away from it, about x and y.
        elbow: Added to the resting joint angles, which decide how the elbow hangs.
        black: Colour of plastic caps and fingers.
        crimson: Colour of painted metal.
        light: Grey of buttons and lens.
        shine: Strength of highlights.
        finger_length: Metres below the gripper's body.
        finger_width: Metres.
        finger_depth: Metres, along the direction in which the gripper closes.
        knob: Radius, metres, of the light bits at the wrist's side.
        cable: Whether a cable runs down the forearm.
    """

    base: tuple[float, float, float]
    yaw: float
    tilt: tuple[float, float]
    elbow: tuple[float, ...]
    black: tuple[float, float, float]
    crimson: tuple[float, float, float]
    light: float
    shine: float
    finger_length: float
    finger_width: float
    finger_depth: float
    knob: float
    cable: bool


@dataclass(frozen=True, slots=True)
class LensDraw:
    """How the camera and later copies changed the picture; the same for a whole clip.

    Attributes:
        glare: Strength of the window's reflection in the near wall, back wall, left wall, right wall and floor.
        glare_seed: Draws the reflections' shapes.
        balance: Factors on red, green and blue.
        veil: Stray light over the whole picture, which lifts black.
        falloff: Warm darkening towards the corners.
        gain: Exposure.
        gamma: Exponent.
        contrast: Slope about the middle.
        blur: Sigma, pixels of the 64x64 picture.
        sharpen: How much of the detail is added again, as cameras do.
        noise: Standard deviation, grey levels.
        shutter: Share of the time between two frames in which the shutter is open.
        quality: What kind of copy the clip is.
        border: Whether the first row and column are black.
    """

    glare: tuple[float, float, float, float, float]
    glare_seed: int
    balance: tuple[float, float, float]
    veil: float
    falloff: float
    gain: float
    gamma: float
    contrast: float
    blur: float
    sharpen: float
    noise: float
    shutter: float
    quality: Quality
    border: bool


@dataclass(frozen=True, slots=True)
class SceneDraw:
    """Everything about a scene but its toys and the arm's path."""

    camera: CameraDraw
    bin: BinDraw
    light: LightDraw
    arm: ArmDraw
    lens: LensDraw
    toys: int


def draw_scene(rng: Generator) -> SceneDraw:
    """Draw a scene."""
    warmth = float(rng.choice([rng.normal(0, 0.015), rng.uniform(0.02, 0.07)], p=[0.7, 0.3]))
    return SceneDraw(
        camera=draw_camera(rng),
        bin=draw_bin(rng, warmth),
        light=draw_light(rng, warmth),
        arm=draw_arm(rng),
        lens=draw_lens(rng),
        toys=int(rng.integers(10, 24)),
    )


def draw_camera(rng: Generator) -> CameraDraw:
    """Mostly the real camera, hardly moved; sometimes another crop of the same view, sometimes quite another place."""
    kind = rng.choice(["same", "crop", "other"], p=[0.72, 0.16, 0.12])
    place, angle, zoom = {"same": (0.004, 0.5, 0.5), "crop": (0.02, 1.5, 3.5), "other": (0.06, 4.0, 3.0)}[str(kind)]
    x, y, z = np.array([0.0, -0.35, 0.475]) + rng.normal(0, place, 3)
    return CameraDraw(
        pos=(float(x), float(y), float(z)),
        pitch=43.8 + float(rng.normal(0, angle)),
        pan=float(rng.normal(0, angle)),
        roll=float(rng.normal(0, angle / 2)),
        fovy=50.0 + float(rng.normal(0, zoom)),
    )


def draw_bin(rng: Generator, warmth: float) -> BinDraw:
    """Light birch, grey plates, a dark floor under it all."""
    tone = rng.uniform(0.94, 1.06)
    wood = np.array([0.80, 0.80, 0.735]) * (1 + warmth * np.array([0.5, 0, -1.3])) * tone
    near, left, right, back = np.array([1.10, 1.03, 0.88, 1.08]) * rng.normal(1, 0.05, 4)
    ground = np.array([0.40, 0.285, 0.11]) * rng.uniform(0.7, 1.3)
    lip = np.array([0.60, 0.55, 0.44]) * rng.uniform(0.8, 1.2)
    return BinDraw(
        wood=_colour(wood),
        walls=(float(near), float(left), float(right), float(back)),
        grain=float(rng.uniform(0.01, 0.045)),
        flare=float(rng.normal(0.628, 0.03)),
        near_length=float(rng.normal(0.228, 0.004)),
        back_length=float(rng.normal(0.135, 0.008)),
        gusset=float(rng.uniform(0.42, 0.72)),
        lip=_colour(lip),
        ground=_colour(ground),
        backdrop=float(rng.uniform(0.35, 1.0)),
        clutter=int(rng.integers(6, 14)),
        rim=int(rng.integers(2, 9)),
    )


def draw_light(rng: Generator, warmth: float) -> LightDraw:
    """A bright room with windows behind the bin: soft shadows, rarely a sharp one."""
    lean = rng.normal(0, 0.25, 2) + np.array([0.0, -0.1])
    return LightDraw(
        ambient=float(rng.uniform(0.54, 0.68)),
        key=float(rng.uniform(0.08, 0.24)),
        key_at=(float(rng.uniform(-0.9, 0.9)), float(rng.uniform(-0.6, 1.0))),
        window=float(rng.uniform(0.10, 0.30)),
        fill=float(rng.uniform(0.04, 0.22)),
        tint=(1 + warmth, 1.0, 1 - warmth),
        hard=bool(rng.random() < 0.3),
        shade=float(rng.uniform(0.15, 0.6)),
        lean=(float(lean[0]), float(lean[1])),
    )


def draw_arm(rng: Generator) -> ArmDraw:
    """The real arm, its paint lighter or darker, its elbow hanging this way or that."""
    base = np.array([0.08, 0.95, -0.08]) + np.clip(rng.normal(0, [0.04, 0.025, 0.02]), -0.05, 0.05)
    shade = rng.uniform(0.5, 1.7)
    return ArmDraw(
        base=(float(base[0]), float(base[1]), float(base[2])),
        yaw=float(rng.normal(-0.03, 0.25) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)),
        tilt=(float(rng.normal(0.0, 0.05)), float(rng.normal(0.02, 0.05))),
        elbow=tuple(float(x) for x in rng.normal(0, 0.15, 7)),
        black=_colour(np.array([0.085, 0.072, 0.048]) * shade * rng.normal(1, 0.08, 3)),
        crimson=_colour(np.array([0.37, 0.08, 0.06]) * rng.uniform(0.7, 1.5) * rng.normal(1, 0.08, 3)),
        light=float(rng.uniform(0.4, 0.95)),
        shine=float(rng.uniform(0.05, 0.5)),
        finger_length=float(rng.uniform(0.125, 0.175)),
        finger_width=float(rng.uniform(0.011, 0.02)),
        finger_depth=float(rng.uniform(0.009, 0.015)),
        knob=float(rng.uniform(0.008, 0.019)),
        cable=bool(rng.random() < 0.4),
    )


def draw_lens(rng: Generator) -> LensDraw:
    """A web camera against the light, and the copies made of its pictures since."""
    flood = float(rng.random() < 0.45)
    near, back, left, right, floor = rng.uniform(0, 1, 5)
    names = list(QUALITIES)
    quality = names[int(rng.choice(len(names), p=np.array(list(QUALITIES.values()))))]
    red, green, blue = 1 + rng.normal(0, 0.013, 3)
    return LensDraw(
        glare=(
            float(flood * near * 0.5),
            float(back * 0.7),
            float(left * 0.3),
            float(right * 0.12),
            float(floor**2 * 0.25),
        ),
        glare_seed=int(rng.integers(2**31)),
        balance=(float(red), float(green), float(blue)),
        veil=float(max(0.0, rng.normal(0.015, 0.02))),
        falloff=float(rng.uniform(0, 0.22)),
        gain=float(rng.uniform(0.94, 1.1)),
        gamma=float(np.exp(rng.normal(0, 0.07))),
        contrast=float(np.exp(rng.normal(0.04, 0.07))),
        blur=float(rng.choice([rng.uniform(0, 0.4), rng.uniform(0.3, 0.9)], p=[0.75, 0.25])),
        sharpen=float(rng.uniform(0.2, 1.6)),
        noise=float(rng.uniform(0.5, 3.5)),
        shutter=float(rng.choice([0.0, rng.uniform(0.2, 0.8)], p=[0.75, 0.25])),
        quality=quality,
        border=bool(rng.random() < 0.92),
    )


def _colour(rgb: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = np.clip(rgb, 0.005, 1)
    return float(red), float(green), float(blue)
