"""A door in memory, with a clock in the test's hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.fleet.authority import DAY_S, Authority, open_authority
from hub.fleet.enrolment import Enrolment, Terms
from hub.fleet.gate import Gate
from hub.fleet.notes import Notes
from hub.store.database import Store
from hub.store.identities import IdentityStore

#: 2026-11-27, a Friday.
NOW = 1_795_800_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[IdentityStore]:
    opened = Store(f"sqlite:///{tmp_path}/hub.db")
    yield opened.identities
    opened.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_authority(tmp_path / "authority", "clinics", NOW)


@pytest.fixture
def desk(store: IdentityStore, authority: Authority) -> Enrolment:
    terms = Terms(fleet="clinics", broker="mqtts://broker.lan:8883", lifetime_s=90 * DAY_S)
    return Enrolment(store, authority, Gate([]), Notes(store), terms)
