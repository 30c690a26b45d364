"""Memory that the C library keeps, looked at in a process of its own."""

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, threading
from service.machine.allocator import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()

def frame():
    parts = [b"robot" * 200_000 for _ in range(6)]

def faults_of_ten_frames():
    for _ in range(3):
        frame()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        frame()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=faults_of_ten_frames)
thread.start()
thread.join()
"""


def faults(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such thresholds")
def test_a_thread_takes_the_same_memory_again_without_asking_the_system() -> None:
    assert faults("keep") < 64 < faults()
