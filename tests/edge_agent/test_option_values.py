"""Words of options in the units that the agent works with: by hand."""

from pathlib import Path

import pytest

from edge_agent.errors import UsageError
from edge_agent.option_values import (
    cap_bytes_of,
    check_floors,
    default_state,
    memory_bytes_of,
    rate_of,
)


def test_sizes_and_rates_are_decimal() -> None:
    assert memory_bytes_of("700MB") == 700_000_000
    assert rate_of("--up-limit", "250kbit") == 250_000
    assert cap_bytes_of("50MB") == 50_000_000


def test_nothing_said_is_no_limit() -> None:
    assert memory_bytes_of(None) is rate_of("--up-limit", None) is cap_bytes_of(None) is None


def test_an_error_names_the_option_and_the_value() -> None:
    with pytest.raises(UsageError, match=r"--memory.*much"):
        memory_bytes_of("much")
    with pytest.raises(UsageError, match=r"--down-limit.*fast"):
        rate_of("--down-limit", "fast")
    with pytest.raises(UsageError, match="--data-cap is 1kB"):
        cap_bytes_of("1kB")
    with pytest.raises(UsageError, match=r"--min-rank is 8; at most --rank \(4\)"):
        check_floors({"rank": (8, 4)})


def test_files_are_kept_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state("ward") == tmp_path / "lorikeet" / "ward"
