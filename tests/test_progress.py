from __future__ import annotations

import pytest

from medlib import progress


@pytest.fixture
def watched(monkeypatch) -> None:
    monkeypatch.setattr(progress, "on_terminal", lambda: True)


def test_where_nobody_watches_the_state_goes_to_a_file(tmp_path, monkeypatch):
    state = tmp_path / "state"
    monkeypatch.setenv(progress.PROGRESS_FILE, str(state))
    bar = progress.Bar("training steps", 20)
    bar.move(10, "loss 0.5")
    assert state.read_text() == "training steps 10/20"
    bar.close()


def test_on_a_terminal_a_bar_moves_and_goes(watched, capsys):
    bar = progress.Bar("training steps", 20)
    bar.move(10, "loss 0.512")
    assert bar._shown is not None
    [task] = bar._shown.tasks
    assert (task.completed, task.total) == (10, 20)
    assert task.description == "training steps (loss 0.512)"
    bar.close()
    assert not bar._shown.live.is_started
