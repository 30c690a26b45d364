"""What a folder was begun with."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from training.begun import BEGUN, hold_to


def test_all_processes_of_a_run_may_write_at_once(tmp_path: Path) -> None:
    together = Barrier(4)

    def begin(_: int) -> None:
        together.wait(60)
        hold_to(tmp_path, {"seed": 1}, begun=False)

    with ThreadPoolExecutor(4) as processes:
        for _ in range(100):
            list(processes.map(begin, range(4)))
    assert json.loads((tmp_path / BEGUN).read_text()) == {"seed": 1}
    assert [file.name for file in tmp_path.iterdir()] == [BEGUN]
