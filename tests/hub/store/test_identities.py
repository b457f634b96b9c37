"""Identities, certificates and tokens in the database."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.exc import IntegrityError

from hub.store.database import Store
from hub.store.identities import Identity, IdentityStore, TokenRow

WARD = Identity(device="ward", key="k1", public_key="p", state="waiting", asked=1.0, token="t1")
TOKEN = TokenRow(hash="t1", made=0.0, expires=10.0, preauthorised=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[IdentityStore]:
    opened = Store(f"sqlite:///{tmp_path}/hub.db")
    yield opened.identities
    opened.close()


def test_what_was_written_survives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    first = Store(url)
    first.identities.add_tokens([TOKEN])
    first.identities.save(WARD, msgspec.structs.replace(TOKEN, key="k1", used=2.0))
    first.close()
    store = Store(url)
    assert store.identities.identity("ward") == store.identities.by_key("k1") == WARD
    assert store.identities.token("t1") == msgspec.structs.replace(TOKEN, key="k1", used=2.0)
    assert store.identities.identity("lab") is store.identities.token("t2") is None
    store.close()


def test_two_devices_never_share_a_key(store: IdentityStore) -> None:
    store.save(WARD)
    with pytest.raises(IntegrityError):
        store.save(msgspec.structs.replace(WARD, device="lab"))


def test_a_revocation_names_every_certificate_that_still_counts(store: IdentityStore) -> None:
    for serial, end in (("a", 50.0), ("b", 100.0)):
        signed = msgspec.structs.replace(WARD, state="enrolled", serial=serial, not_after=end)
        store.save_signed(signed)
    store.save_signed(
        msgspec.structs.replace(WARD, device="lab", key="k2", serial="c", not_after=100.0)
    )
    store.revoke("ward", 20.0)
    store.revoke("ward", 30.0)  # the first time stays
    assert [(one.serial, one.revoked) for one in store.revoked(20.0)] == [("a", 20.0), ("b", 20.0)]
    assert [one.serial for one in store.revoked(60.0)] == ["b"]


def test_unused_tokens_are_forgotten_once_they_have_expired_long_ago(store: IdentityStore) -> None:
    store.add_tokens([TOKEN, TokenRow(hash="t2", made=0.0, expires=99.0, preauthorised=False)])
    store.save(WARD, msgspec.structs.replace(TOKEN, key="k1", used=2.0))
    store.add_tokens([TokenRow(hash="t3", made=0.0, expires=10.0, preauthorised=False)])
    store.forget_tokens(before=50.0)
    found = [one for one in ("t1", "t2", "t3") if store.token(one) is not None]
    assert found == ["t1", "t2"]
