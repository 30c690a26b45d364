"""Whoever publishes may be killed at any moment: nothing half is ever seen, and the service goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from service_kit import golden_frames, png, publish_tiny, serving

from service.contract import open_bundle, versions

# Publishes in a fork that kills itself (SIGKILL) when it is about to do the n-th thing to the file system, for n = 1,
# 2, ... until one gets to its end; says so for each, and waits for a line before the next.
PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from service_kit import publish_tiny
STEPS = ("open", "os.mkdir", "os.rename", "os.chmod", "os.listdir", "os.scandir", "tempfile.mkdtemp", "shutil.rmtree")
step, status = 0, 1
while status:
    step += 1
    sys.stdin.readline()
    child = os.fork()
    if child == 0:
        left = [step]
        def hook(event, arguments):
            if event in STEPS:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        publish_tiny(Path(sys.argv[1]))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(step, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_publisher_killed_at_any_step_leaves_nothing_that_is_seen(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        serving(tmp_path, poll_s=0.01, vet_s=0) as running,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        steps = 0
        while process.poll() is None:
            process.stdin.write("\n")
            process.stdin.flush()
            said = process.stdout.readline()
            steps = int(said) if said else steps
            answer = running.segment(png(golden_frames()[0]))
            assert answer.status_code == 200
            whole = versions(tmp_path, "tiny")
            assert all(open_bundle(tmp_path / "tiny" / str(version)).manifest.version == version for version in whole)
            if said and len(whole) > 1 and steps > 20:
                break
        process.stdin.close()
        process.wait()  # what it has left to do it does now, without being asked
        newest = versions(tmp_path, "tiny")[-1]
        while running.client.get("/readyz").json()["model"]["version"] != newest:
            running.segment(png(golden_frames()[0]))
        events = running.client.get("/models").json()["events"]
    assert steps > 20
    assert newest > 1
    assert all(event["result"] == "activated" for event in events)


def test_publishing_removes_what_was_left_long_ago_and_nothing_newer(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    for name, age_s in ((".7.old.tmp", 2 * 86_400), (".8.new.tmp", 60)):
        left = tmp_path / "tiny" / name
        left.mkdir()
        (left / "half").write_bytes(b"half")
        moment_s = left.stat().st_mtime - age_s
        os.utime(left, (moment_s, moment_s))
    publish_tiny(tmp_path)
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == [".8.new.tmp", "1", "2"]
