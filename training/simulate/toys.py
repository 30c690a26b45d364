"""Toys such as lie in the real bin, built of simple shapes: plush animals, cups, tools, shoes, food, balls, boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from training.simulate.geometry import any_rotation, direction, turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

Form = Literal["sphere", "ellipsoid", "box", "cylinder", "capsule"]
Surface = Literal["plain", "glossy", "fur", "blots", "print"]

VARIANTS = 3
"""How many textures a scene has of each patterned surface."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A part of a toy.

    Attributes:
        form: MuJoCo's primitive.
        size: Its half sizes, metres.
        pos: Metres from the toy's middle.
        colour: RGB 0..1, multiplied by the surface's texture.
        quat: Its rotation.
        surface: What it is made of.
        variant: Which of the scene's textures of that surface.
        solid: Whether other things bump into it.
    """

    form: Form
    size: tuple[float, ...]
    pos: tuple[float, float, float]
    colour: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    surface: Surface
    variant: int
    solid: bool


def shape(
    form: Form,
    size: np.ndarray | list[float],
    pos: np.ndarray | tuple[float, float, float] = (0, 0, 0),
    colour: np.ndarray | tuple[float, float, float] = (1, 1, 1),
    surface: Surface = "plain",
    *,
    variant: int = 0,
    quat: np.ndarray | None = None,
    solid: bool = True,
) -> Shape:
    """A part of a toy, from arrays."""
    x, y, z = (float(v) for v in pos)
    red, green, blue = (float(v) for v in np.clip(colour, 0.01, 1))
    w, i, j, k = (1.0, 0.0, 0.0, 0.0) if quat is None else (float(v) for v in quat)
    sizes = tuple(float(s) for s in size)
    return Shape(form, sizes, (x, y, z), (red, green, blue), (w, i, j, k), surface, variant, solid)


def near(rng: Generator, *colours: tuple[float, float, float], spread: float = 0.05) -> np.ndarray:
    """One of some colours, varied a little."""
    return np.clip(np.asarray(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3), 0.01, 1)


def plush(rng: Generator) -> list[Shape]:
    """An animal on its side or back: body, head, limbs, ears; zebra, tiger, cow, elephant, monkey, bear."""
    surface: Surface = "blots" if rng.random() < 0.55 else "fur"
    variant, k = int(rng.integers(VARIANTS)), rng.uniform(0.95, 1.6)
    if surface == "blots":
        colour = near(rng, (0.95, 0.95, 0.93), (0.85, 0.85, 0.84), spread=0.03)
    else:
        colour = near(
            rng, (0.75, 0.75, 0.74), (0.6, 0.62, 0.64), (0.88, 0.88, 0.86), (0.28, 0.19, 0.12), (0.2, 0.13, 0.1)
        )
    parts = [
        shape("ellipsoid", np.array([0.034, 0.026, 0.024]) * k, colour=colour, surface=surface, variant=variant),
        shape(
            "ellipsoid",
            np.array([0.024, 0.021, 0.02]) * k,
            np.array([0.046, 0, 0.01]) * k,
            colour,
            surface,
            variant=variant,
        ),
    ]
    for x in (0.024, -0.028):
        for side in (1, -1):
            swing = turn((0, 0, 1), rng.uniform(-1.3, 1.3))
            place = np.array([x, side * 0.029, rng.uniform(-0.012, 0.006)]) * k
            limb = colour * rng.uniform(0.7, 1.05)
            parts.append(
                shape(
                    "ellipsoid", np.array([0.022, 0.011, 0.011]) * k, place, limb, surface, variant=variant, quat=swing
                )
            )
    for side in (1, -1):
        place = np.array([0.05, side * 0.017, 0.03]) * k
        ear = colour * rng.uniform(0.4, 1.0)
        parts.append(
            shape("ellipsoid", np.array([0.007, 0.01, 0.012]) * k, place, ear, surface, variant=variant, solid=False)
        )
    if surface == "fur" and rng.random() < 0.7:  # a pale face, dark eyes
        pale = near(rng, (0.85, 0.75, 0.6), (0.95, 0.93, 0.9))
        face = np.array([0.062, 0, 0.006]) * k
        parts.append(shape("ellipsoid", np.array([0.01, 0.014, 0.013]) * k, face, pale, solid=False))
        for side in (1, -1):
            eye = np.array([0.069, side * 0.007, 0.012]) * k
            parts.append(shape("sphere", [0.004 * k], eye, (0.05, 0.05, 0.05), solid=False))
    if rng.random() < 0.3:
        tail = near(rng, (0.1, 0.1, 0.1), (0.9, 0.9, 0.9), (0.4, 0.2, 0.5))
        parts.append(shape("capsule", [0.004 * k, 0.022 * k], (-0.05 * k, 0, 0), tail, quat=turn((0, 1, 0), 1.4)))
    return parts


def ball(rng: Generator) -> list[Shape]:
    """A ball, some with a cap or seam."""
    colour = near(
        rng,
        (0.94, 0.94, 0.92),
        (0.94, 0.94, 0.92),
        (0.72, 0.78, 0.58),
        (0.85, 0.5, 0.2),
        (0.75, 0.2, 0.14),
        (0.3, 0.24, 0.18),
    )
    r = rng.uniform(0.016, 0.03)
    parts = [shape("sphere", [r], colour=colour)]
    if rng.random() < 0.5:
        cap = near(rng, (0.2, 0.13, 0.1), (0.6, 0.6, 0.58), (0.9, 0.9, 0.88), (0.35, 0.6, 0.15))
        parts.append(shape("cylinder", [r * 0.94, r * 0.45], (0, 0, -r * 0.35), cap, solid=False))
    return parts


def cup(rng: Generator) -> list[Shape]:
    """A lime beaker with an orange band, or a cup of another colour."""
    body, band = near(rng, (0.42, 0.82, 0.1), spread=0.04), near(rng, (0.95, 0.45, 0.1), spread=0.03)
    if rng.random() < 0.4:
        body, band = (
            near(rng, (0.65, 0.05, 0.1), (0.1, 0.4, 0.7), (0.9, 0.9, 0.88), (0.3, 0.1, 0.3), spread=0.06),
            rng.random(3),
        )
    r, h = rng.uniform(0.02, 0.03), rng.uniform(0.016, 0.03)
    parts = [
        shape("cylinder", [r, h], colour=body, surface="glossy"),
        shape("cylinder", [r * 0.8, 0.006], (0, 0, h), body * rng.uniform(0.2, 0.8), solid=False),
        shape("cylinder", [r * 1.05, h * 0.35], (0, 0, -h * 0.6), band, solid=False),
    ]
    if rng.random() < 0.5:
        quat = turn((1, 0, 0), 0.2)
        parts.append(shape("box", [0.012, 0.005, h * 0.7], (r + 0.008, 0, 0), band, "plain", quat=quat, solid=False))
    return parts


def drum(rng: Generator) -> list[Shape]:
    """White barrels with a dark brown band: cupcakes, marshmallow toys, drums."""
    white, dark = (
        near(rng, (0.93, 0.92, 0.9), spread=0.02),
        near(rng, (0.25, 0.14, 0.09), (0.12, 0.09, 0.08), spread=0.03),
    )
    r, h = rng.uniform(0.018, 0.026), rng.uniform(0.016, 0.03)
    return [
        shape("cylinder", [r, h], colour=white),
        shape("ellipsoid", [r * 0.98, r * 0.98, r * 0.5], (0, 0, h), white),
        shape(
            "cylinder", [r * 1.03, h * rng.uniform(0.15, 0.35)], (0, 0, rng.uniform(-0.6, 0.3) * h), dark, solid=False
        ),
    ]


def drill(rng: Generator) -> list[Shape]:
    """A toy drill, blue with orange ends."""
    body = near(rng, (0.08, 0.36, 0.64), (0.1, 0.42, 0.7), (0.9, 0.5, 0.1), spread=0.03)
    trim, k = near(rng, (0.9, 0.55, 0.18), (0.85, 0.6, 0.4)), rng.uniform(0.9, 1.25)
    return [
        shape("box", np.array([0.045, 0.014, 0.015]) * k, colour=body),
        shape(
            "box",
            np.array([0.014, 0.013, 0.034]) * k,
            np.array([-0.028, 0, -0.042]) * k,
            body,
            quat=turn((0, 1, 0), 0.26),
        ),
        shape("box", np.array([0.019, 0.0145, 0.01]) * k, np.array([-0.03, 0, -0.07]) * k, trim, solid=False),
        shape("box", np.array([0.02, 0.0148, 0.006]) * k, np.array([-0.01, 0, 0.004]) * k, trim, solid=False),
        shape(
            "cylinder", np.array([0.008, 0.014]) * k, np.array([0.056, 0, 0]) * k, trim, quat=turn((0, 1, 0), np.pi / 2)
        ),
    ]


def shoe(rng: Generator) -> list[Shape]:
    """A sandal or toy car: long, lime and grey, dark inside."""
    upper = near(rng, (0.5, 0.82, 0.18), (0.45, 0.75, 0.2), (0.25, 0.6, 0.75), (0.8, 0.3, 0.3))
    sole, k = near(rng, (0.65, 0.7, 0.66), (0.3, 0.33, 0.34)), rng.uniform(0.9, 1.25)
    return [
        shape("ellipsoid", np.array([0.066, 0.023, 0.013]) * k, colour=sole),
        shape("ellipsoid", np.array([0.04, 0.02, 0.017]) * k, np.array([-0.018, 0, 0.01]) * k, upper, surface="glossy"),
        shape("box", np.array([0.052, 0.017, 0.004]) * k, np.array([0, 0, -0.01]) * k, upper * 0.9),
        shape(
            "ellipsoid",
            np.array([0.03, 0.012, 0.008]) * k,
            np.array([0.012, 0, 0.013]) * k,
            (0.13, 0.14, 0.13),
            solid=False,
        ),
    ]


def food(rng: Generator) -> list[Shape]:
    """Carrots, tomatoes, muffins, coconut halves, grapes."""
    kind = rng.integers(4)
    if kind == 0:
        green = near(rng, (0.35, 0.7, 0.15))
        return [
            shape("ellipsoid", [0.026, 0.019, 0.019], colour=near(rng, (0.93, 0.4, 0.08), (0.75, 0.2, 0.12))),
            shape("ellipsoid", [0.018, 0.016, 0.016], (-0.03, 0, 0.003), green),
        ]
    if kind == 1:
        rim, pulp = near(rng, (0.2, 0.13, 0.09), spread=0.03), near(rng, (0.85, 0.82, 0.7), (0.3, 0.24, 0.18))
        r = rng.uniform(0.016, 0.024)
        return [
            shape("ellipsoid", [r, r, r * 0.8], colour=rim),
            shape("cylinder", [r * 0.8, 0.002], (0, 0, r * 0.75), pulp),
        ]
    if kind == 2:
        crust = near(rng, (0.3, 0.2, 0.13), (0.75, 0.5, 0.25))
        return [
            shape("cylinder", [0.019, 0.011], colour=crust * 1.2),
            shape("ellipsoid", [0.024, 0.024, 0.015], (0, 0, 0.012), crust, "fur", variant=int(rng.integers(VARIANTS))),
        ]
    skin, k = near(rng, (0.25, 0.1, 0.4), (0.33, 0.2, 0.45), (0.4, 0.38, 0.4), spread=0.04), rng.uniform(0.9, 1.2)
    parts = [shape("ellipsoid", np.array([0.022, 0.017, 0.015]) * k, colour=skin)]
    for _ in range(8):
        berry = skin * rng.uniform(0.5, 1.6)
        place = direction(rng) * np.array([0.022, 0.017, 0.013]) * k
        parts.append(shape("sphere", [0.009 * k], place, berry, "glossy", solid=False))
    return parts


def spoon(rng: Generator) -> list[Shape]:
    """Spoons, ladles and pans."""
    colour = near(rng, (0.75, 0.22, 0.12), (0.7, 0.2, 0.12), (0.25, 0.08, 0.16), (0.1, 0.1, 0.1), (0.8, 0.8, 0.8))
    k = rng.uniform(0.85, 1.25)
    return [
        shape("cylinder", np.array([0.024, 0.007]) * k, colour=colour),
        shape("cylinder", np.array([0.018, 0.003]) * k, (0, 0, 0.006 * k), colour * rng.uniform(0.5, 1.1), solid=False),
        shape("capsule", np.array([0.005, 0.034]) * k, (0.054 * k, 0, 0), colour, quat=turn((0, 1, 0), np.pi / 2)),
    ]


def printed(rng: Generator) -> list[Shape]:
    """Boxes, tins and sandwiches with prints of many colours."""
    variant, tint = int(rng.integers(VARIANTS)), 1 - 0.3 * rng.random(3)
    if rng.random() < 0.5:
        return [
            shape(
                "box",
                rng.uniform([0.018, 0.014, 0.007], [0.042, 0.03, 0.02]),
                colour=tint,
                surface="print",
                variant=variant,
            )
        ]
    r, h = rng.uniform(0.012, 0.022), rng.uniform(0.018, 0.036)
    end = near(rng, (0.9, 0.75, 0.15), (0.2, 0.6, 0.65), (0.9, 0.9, 0.9))
    return [
        shape("cylinder", [r, h], colour=tint, surface="print", variant=variant),
        shape("cylinder", [r * 1.03, h * 0.25], (0, 0, -h * 0.75), end, solid=False),
    ]


def beads(rng: Generator) -> list[Shape]:
    """A chain or kebab of small coloured pieces."""
    palette = (
        (0.8, 0.12, 0.1),
        (0.1, 0.5, 0.5),
        (0.9, 0.75, 0.1),
        (0.15, 0.5, 0.15),
        (0.92, 0.92, 0.9),
        (0.15, 0.1, 0.1),
    )
    parts, k = [], rng.uniform(0.8, 1.3)
    for i in range(int(rng.integers(3, 7))):
        place = np.array([(i - 2) * 0.018, rng.uniform(-0.007, 0.007), 0]) * k
        if rng.random() < 0.5:
            parts.append(shape("sphere", [0.011 * k], place, near(rng, *palette)))
        else:
            parts.append(shape("box", [0.01 * k] * 3, place, near(rng, *palette)))
    return parts


def anything(rng: Generator) -> list[Shape]:
    """Shapes of any colour stuck together, so that a model does not learn these few toys by heart."""
    surfaces: tuple[Surface, ...] = ("plain", "glossy", "fur", "blots", "print")
    forms: tuple[Form, ...] = ("ellipsoid", "box", "cylinder")
    base = rng.random(3) if rng.random() < 0.6 else np.full(3, rng.choice([0.04, 0.08, 0.9]))
    parts = []
    for i in range(int(rng.integers(1, 5))):
        form = forms[rng.integers(len(forms))]
        size = rng.uniform(0.008, 0.032, 2 if form == "cylinder" else 3)
        place = np.zeros(3) if i == 0 else direction(rng) * rng.uniform(0.01, 0.035)
        surface = surfaces[rng.choice(len(surfaces), p=[0.45, 0.2, 0.15, 0.1, 0.1])]
        colour = base if rng.random() < 0.5 else rng.random(3)
        parts.append(
            shape(form, size, place, colour, surface, variant=int(rng.integers(VARIANTS)), quat=any_rotation(rng))
        )
    return parts


def rod(rng: Generator) -> list[Shape]:
    """Something long and dark, or dark red: what a model must not take for a finger or a link."""
    colour = near(rng, (0.05, 0.05, 0.05), (0.12, 0.1, 0.08), (0.35, 0.06, 0.06), spread=0.02)
    long = shape("capsule", [rng.uniform(0.005, 0.014), rng.uniform(0.02, 0.05)], colour=colour, surface="glossy")
    parts = [long]
    if rng.random() < 0.5:
        tip = near(rng, (0.35, 0.06, 0.06), (0.8, 0.8, 0.8), (0.05, 0.05, 0.05))
        parts.append(shape("sphere", [rng.uniform(0.012, 0.02)], (0, 0, long.size[1]), tip))
    return parts


KINDS: tuple[tuple[Callable[[Generator], list[Shape]], float], ...] = (
    (plush, 6.0),
    (ball, 2.6),
    (cup, 2.0),
    (drum, 2.0),
    (drill, 1.3),
    (shoe, 1.3),
    (food, 2.4),
    (spoon, 1.0),
    (printed, 1.4),
    (beads, 1.2),
    (anything, 1.6),
    (rod, 0.8),
)
"""Kinds of toys, and how often a toy is of each."""


def draw_toy(rng: Generator) -> list[Shape]:
    """Draw a toy of any kind."""
    weights = np.array([weight for _, weight in KINDS])
    return KINDS[rng.choice(len(KINDS), p=weights / weights.sum())][0](rng)
