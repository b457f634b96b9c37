"""What an agent was started with, in its state folder."""

import stat
from pathlib import Path

from edge_agent.kept_settings import FILE, keep_settings, kept_settings
from edge_agent.task_run import Settings


def test_settings_are_kept_for_this_user_alone(tmp_path: Path) -> None:
    one = Settings(
        broker="mqtt://ward:secret@127.0.0.1:9",
        fleet="f",
        device="d",
        data=["text"],
        state_folder=str(tmp_path),
    )
    keep_settings(one)
    keep_settings(one)  # a second start
    assert kept_settings(tmp_path) == one
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_folder_without_any_has_none(tmp_path: Path) -> None:
    assert kept_settings(tmp_path) is None
    (tmp_path / FILE).write_text("[]")
    assert kept_settings(tmp_path) is None
