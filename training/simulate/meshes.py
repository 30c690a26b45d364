"""Rethink's Sawyer arm as robosuite ships it, found at run time and decimated once into a per-user cache."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.simulate.errors import SimulationError

Paint = Literal["black", "crimson", "light", "white"]

CACHE_FORMAT = 2
"""Goes up when what is written to the cache changes."""

LINKS = ("right_arm_base_link", *(f"right_l{i}" for i in range(7)), "right_hand", "gripper_base")
"""Links of the arm from its base to its gripper; head and cameras, which hang beside them, are left out."""

TRIANGLES_PER_M2 = {
    "l2": 4000,
    "l3": 8000,
    "l4": 15000,
    "l5": 45000,
    "l6": 60000,
    "connector": 20000,
    "electric": 40000,
}
"""How fine the meshes stay, by the first part of their names; base and shoulder are never seen, fingers are our own."""

SMALLEST_PART_M2 = 8e-4
"""Parts with less surface than this (screws, logos) are under a tenth of a pixel."""


@dataclass(frozen=True, slots=True)
class Link:
    """A rigid body of the arm.

    Attributes:
        name: Its name in robosuite's model.
        pos: Metres, in the frame of the link before it.
        quat: w, x, y, z in the frame of the link before it.
        limits: Radians, of the hinge about its z axis; None where it is fixed to the link before it.
    """

    name: str
    pos: tuple[float, ...]
    quat: tuple[float, ...]
    limits: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Part:
    """A mesh of one colour, fixed to a link.

    Attributes:
        name: Its name in robosuite's model, and that of its file in the cache without ".stl".
        link: The link it is fixed to.
        pos: Metres, in the link's frame.
        quat: w, x, y, z in the link's frame.
        paint: Which of the arm's colours it has.
    """

    name: str
    link: str
    pos: tuple[float, ...]
    quat: tuple[float, ...]
    paint: Paint


@dataclass(frozen=True, slots=True)
class Sawyer:
    """The arm: links from the base outwards, the parts on them, and the folder that holds the parts' meshes."""

    links: tuple[Link, ...]
    parts: tuple[Part, ...]
    folder: Path


def cache_root() -> Path:
    """Where decimated meshes are kept: `ROBOMASK_CACHE`, or else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "robomask"
    return Path(os.environ.get("ROBOMASK_CACHE", default))


def load_sawyer() -> Sawyer:
    """The arm, from the cache; the first call on a machine fills it, which takes some seconds.

    Raises:
        SimulationError: robosuite is not installed, or does not hold what is expected.
    """
    spec = importlib.util.find_spec("robosuite")  # found, not imported: importing it would start numba and OpenCV
    if spec is None or spec.origin is None:
        raise SimulationError("expected the package 'robosuite', found none: pip install 'robomask[sim]'")
    folder = cache_root() / f"sawyer-{importlib.metadata.version('robosuite')}-{CACHE_FORMAT}"
    if not (folder / "arm.json").is_file():
        _fill(Path(spec.origin).parent / "models" / "assets", folder)
    arm = json.loads((folder / "arm.json").read_text())
    links = tuple(Link(**link) for link in arm["links"])
    return Sawyer(links, tuple(Part(**part) for part in arm["parts"]), folder)


def _fill(assets: Path, folder: Path) -> None:
    """Write meshes and `arm.json` beside `folder`, then rename: others see the whole cache or none of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        links: dict[str, Link] = {}
        parts: list[Part] = []
        for source in (assets / "robots/sawyer/robot.xml", assets / "grippers/rethink_gripper.xml"):
            if not source.is_file():
                raise SimulationError(
                    f"expected {source} in robosuite, found none: install the version that 'sim' pins"
                )
            model = ET.parse(source).getroot()  # noqa: S314  # a file of an installed package, not of a user
            files = {mesh.get("name", ""): source.parent / mesh.get("file", "") for mesh in model.iter("mesh")}
            colours = {m.get("name", ""): _numbers(m, "rgba", (0, 0, 0, 1)) for m in model.iter("material")}
            for body in model.iter("body"):
                name = body.get("name", "")
                if name not in LINKS:
                    continue
                links[name] = _link(body)
                for geom in body.findall("geom"):
                    mesh = geom.get("mesh", "")
                    if _decimate(files.get(mesh), mesh, temporary / f"{mesh}.stl"):
                        paint = _paint(mesh, colours[geom.get("material", "")])
                        pos, quat = _numbers(geom, "pos", (0, 0, 0)), _numbers(geom, "quat", (1, 0, 0, 0))
                        parts.append(Part(mesh, name, pos, quat, paint))
        if missing := set(LINKS) - set(links):
            raise SimulationError(f"expected the links {sorted(missing)} in robosuite's Sawyer, found none such")
        arm = {"links": [asdict(links[name]) for name in LINKS], "parts": [asdict(part) for part in parts]}
        (temporary / "arm.json").write_text(json.dumps(arm, indent=1))
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "arm.json").is_file():  # else another process was first, and its cache is as good
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _numbers(element: ET.Element, attribute: str, default: tuple[float, ...]) -> tuple[float, ...]:
    text = element.get(attribute)
    return default if text is None else tuple(float(word) for word in text.split())


def _link(body: ET.Element) -> Link:
    joint = body.find("joint")
    limits = None if joint is None else _numbers(joint, "range", (-np.pi, np.pi))
    pos, quat = _numbers(body, "pos", (0, 0, 0)), _numbers(body, "quat", (1, 0, 0, 0))
    return Link(body.get("name", ""), pos, quat, None if limits is None else (limits[0], limits[1]))


def _paint(mesh: str, rgba: tuple[float, ...]) -> Paint:
    red, green, blue = rgba[:3]
    if mesh.startswith(("connector", "electric_gripper_base_0")):
        return "black"
    if (red > 0.6 and green < 0.2) or (red > 0.8 and green > 0.25 and blue < 0.3):
        return "crimson"
    if red > 0.9 and green > 0.9:
        return "white"
    return "light" if red > 0.6 else "black"


def _decimate(source: Path | None, name: str, target: Path) -> bool:
    """Write a mesh with few triangles; False for one that is not wanted."""
    density = TRIANGLES_PER_M2.get(name.split("_", maxsplit=1)[0])
    if source is None or density is None:
        return False
    try:
        import fast_simplification  # noqa: PLC0415  # needed once a machine
        import trimesh  # noqa: PLC0415  # needed once a machine
    except ModuleNotFoundError as error:
        raise SimulationError(f"expected the package {error.name!r}, found none: pip install 'robomask[sim]'") from None
    mesh: Any = trimesh.load(source, force="mesh", process=False)
    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    if mesh.area < SMALLEST_PART_M2:
        return False
    wanted = max(24, round(mesh.area * density))
    if len(mesh.faces) > wanted:
        vertices, faces = fast_simplification.simplify(
            mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), 1 - wanted / len(mesh.faces), agg=3
        )
        mesh = trimesh.Trimesh(vertices, faces)
    mesh.export(target)
    return True
