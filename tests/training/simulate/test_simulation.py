"""Clips as they come out of the renderer: exact masks, same bytes from the same seed, shards that can be read."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("training.simulate.engine", reason="the extra 'sim' is not installed")
if importlib.util.find_spec("robosuite") is None:
    pytest.skip("the extra 'sim' is not installed: robosuite, which holds the arm's meshes", allow_module_level=True)

from training.commands.simulate import main
from training.data.readers import read_frames
from training.simulate.arm import Arm, draw_path
from training.simulate.clip import simulate_clip
from training.simulate.config import SimulateConfig
from training.simulate.engine import mujoco
from training.simulate.errors import SimulationError
from training.simulate.generate import SETTINGS, Job, Studio, claim, is_whole, write_shard
from training.simulate.meshes import LINKS, load_sawyer
from training.simulate.randomise import draw_scene
from training.simulate.render import average, small_mask
from training.simulate.scene import Scene
from training.simulate.surfaces import SHOWN, Surface


@pytest.fixture(scope="module")
def studio() -> Studio:
    try:
        studio = Studio(supersample=2)
        studio.make(Job(seed=0, index=0, frames=1, stride=1))
    except SimulationError as error:
        pytest.skip(str(error))
    return studio


def test_the_arm_is_read_from_robosuite_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOMASK_CACHE", str(tmp_path))
    sawyer = load_sawyer()
    assert tuple(link.name for link in sawyer.links) == LINKS
    assert {"black", "crimson"} <= {part.paint for part in sawyer.parts}
    assert all((sawyer.folder / f"{part.name}.stl").is_file() for part in sawyer.parts)
    assert sum(file.stat().st_size for file in sawyer.folder.iterdir()) < 2e6
    changed = [file.stat().st_mtime_ns for file in sawyer.folder.iterdir()]
    assert load_sawyer() == sawyer
    assert [file.stat().st_mtime_ns for file in sawyer.folder.iterdir()] == changed


def test_without_robosuite_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SimulationError, match=r"robomask\[sim\]"):
        load_sawyer()


def test_the_fingers_reach_what_the_path_asks_for() -> None:
    rng = np.random.default_rng(0)
    misses = []
    for _ in range(12):
        arm = Arm(load_sawyer(), draw_scene(rng).arm)
        down = arm.pointing_down(arm.draw.yaw)
        angles = arm.solve(np.array([0, 0.2, 0.3]), down, arm.rest, 150)
        for tip in draw_path(rng, 6).tip:
            angles = arm.solve(tip, down, angles, 40)
            arm.poses(angles, 0.02)
            misses.append(np.linalg.norm(arm.data.site_xpos[0] - tip))
    assert np.median(misses) < 1e-3
    assert np.mean(np.array(misses) < 0.01) > 0.9


def test_masks_are_the_renderers_own_segmentation(studio: Studio) -> None:
    rng = np.random.default_rng([7])
    draw = draw_scene(rng)
    scene = Scene(studio.sawyer, draw, rng, studio.renderer.size)
    arm = Arm(studio.sawyer, draw.arm)
    tip = np.array([0.0, 0.15, 0.02])
    scene.put_arm(*arm.poses(arm.solve(tip, arm.pointing_down(draw.arm.yaw), arm.rest, 200), 0.02))
    scene.settle(40)
    studio.renderer.show(scene)
    view = studio.renderer.view()
    studio.renderer.release()
    reference = mujoco.Renderer(scene.model, studio.renderer.size, studio.renderer.size)
    reference.enable_segmentation_rendering()
    option = mujoco.MjvOption()
    option.geomgroup[:] = [group == SHOWN for group in range(6)]
    reference.update_scene(scene.data, camera="camera", scene_option=option)
    geoms, kinds = np.moveaxis(reference.render(), -1, 0)
    reference.close()
    robot = (kinds == mujoco.mjtObj.mjOBJ_GEOM) & (scene.surfaces[geoms] == Surface.ROBOT)
    assert robot.mean() > 0.01
    assert np.array_equal(view.robot, robot)
    assert np.array_equal(small_mask(average(robot, 2)), small_mask(average(view.robot, 2)))


def test_the_same_seed_gives_the_same_bytes(studio: Studio) -> None:
    made = [
        simulate_clip(studio.sawyer, studio.renderer, seed=3, index=index, frames=3, stride=2) for index in (5, 6, 5)
    ]
    assert made[0].frames.tobytes() == made[2].frames.tobytes()
    assert made[0].masks.tobytes() == made[2].masks.tobytes()
    assert made[0].frames.tobytes() != made[1].frames.tobytes()
    assert made[0].frames.shape == (3, 64, 64, 3)
    assert set(np.unique(made[0].masks)) <= {0, 1}
    assert [clip.scene for clip in made] == ["simulated-3-000005", "simulated-3-000006", "simulated-3-000005"]


def test_arm_shares_are_like_the_real_ones(studio: Studio) -> None:
    masks = [
        simulate_clip(studio.sawyer, studio.renderer, seed=0, index=i, frames=2, stride=4).masks for i in range(40)
    ]
    low, middle, high = np.percentile(np.concatenate(masks).mean((1, 2)) * 100, [10, 50, 90])
    assert low > 0.2
    assert 2.5 < middle < 7
    assert high < 20


def test_runs_go_on_where_they_stopped_and_can_be_read(
    tmp_path: Path, studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clips"
    arguments = ["--frames=2", "--supersample=2", "--shard-clips=2", "--processes=1", "--seed=11"]
    assert main(["--out", str(out), "--clips", "2", *arguments]) == 0
    first, last = out / "clips-000000.npz", out / "clips-000002.npz"
    stamp = first.stat().st_mtime_ns
    assert main(["--out", str(out), "--clips", "3", *arguments]) == 0
    assert first.stat().st_mtime_ns == stamp
    assert sorted(file.name for file in out.iterdir()) == ["clips-000000.npz", "clips-000002.npz", SETTINGS]
    read = read_frames(out)
    assert read.frames.shape == (6, 64, 64, 3)
    assert len(set(read.scene)) == 3
    alone = simulate_clip(studio.sawyer, studio.renderer, seed=11, index=2, frames=2)
    assert np.array_equal(read.frames[4:], alone.frames)
    assert np.array_equal(read.masks[4:], alone.masks)
    assert "in 2 shards" in capsys.readouterr().out
    assert is_whole(last, 1)
    assert not is_whole(last, 2), "a run with more clips would make it anew"
    assert main(["--out", str(out), "--clips", "3", *arguments[:-1], "--seed=12"]) == 1
    assert "choose another folder" in capsys.readouterr().err


def test_a_folder_with_other_data_is_left_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", a=np.zeros(1))
    with pytest.raises(SimulationError, match="expected an empty folder"):
        claim(tmp_path, SimulateConfig(out=tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.npz"]


def test_a_shard_is_there_whole_or_not_at_all(tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [simulate_clip(studio.sawyer, studio.renderer, seed=0, index=0, frames=1)]

    def fails(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fails)
    with pytest.raises(OSError, match="disk full"):
        write_shard(tmp_path / "clips-000000.npz", made)
    assert not list(tmp_path.glob("*.npz"))
