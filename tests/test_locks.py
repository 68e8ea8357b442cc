from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from medlib.locks import exclusive

COUNT_UP = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from medlib.locks import exclusive
    lock, counter = map(Path, sys.argv[1:])
    for _ in range(20):
        with exclusive(lock):
            value = int(counter.read_text())
            time.sleep(0.002)
            counter.write_text(str(value + 1))
    """
)


def test_processes_take_turns_and_leave_nothing(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT_UP, str(tmp_path / ".lock"), str(counter)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert counter.read_text() == "60"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_an_error_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), exclusive(tmp_path / ".lock"):
        raise ValueError("mine")
    entered = threading.Event()

    def enter() -> None:
        with exclusive(tmp_path / ".lock"):
            entered.set()

    threading.Thread(target=enter, daemon=True).start()
    assert entered.wait(10)
