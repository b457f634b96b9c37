import hashlib

import httpx
import pytest

from tests.hub.api.served import MemoryHub

DATA = bytes(range(256)) * 1000


def test_a_manifest_is_served_byte_by_byte(client: httpx.Client, hub: MemoryHub) -> None:
    digest = hashlib.sha256(hub.manifest).hexdigest()
    answer = client.get(f"/v1/models/{digest}")
    assert (answer.status_code, answer.content) == (200, hub.manifest)
    assert client.get(f"/v1/models/{'0' * 64}").status_code == 404


def test_derived_files_are_told_of_while_they_are_made_and_once_they_are_there(
    client: httpx.Client, hub: MemoryHub
) -> None:
    digest = hashlib.sha256(hub.manifest).hexdigest()
    url = f"/v1/models/{digest}/derived/gguf-q8_0"
    making = client.get(url)
    assert (making.status_code, making.json()["total_bytes"]) == (202, 100)
    assert int(making.headers["retry-after"]) > 0
    ready = client.get(url)
    assert (ready.status_code, ready.json()["digest"]) == (200, digest)
    refused = client.get(url)
    assert refused.status_code == 409
    assert refused.json()["error"] == "it can't be made of this base: its family is strange."
    assert client.get(f"/v1/models/{digest}/derived/pickle").status_code == 404
    assert client.get(f"/v1/models/{'0' * 64}/derived/gguf-q8_0").status_code == 404


def test_a_blob_is_served_whole(client: httpx.Client, hub: MemoryHub) -> None:
    sha256 = hub.add_blob(DATA)
    answer = client.get(f"/v1/blobs/{sha256}")
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{sha256}"'
    head = client.head(f"/v1/blobs/{sha256}")
    assert (head.status_code, head.headers["content-length"]) == (200, "256000")


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("0-0", 0, 1), ("1000-1999", 1000, 2000), ("255990-", 255990, 256000), ("-5", 255995, 256000),
     ("255999-999999999", 255999, 256000)],
)  # fmt: skip
def test_a_range_is_served_alone(
    client: httpx.Client, hub: MemoryHub, wanted: str, start: int, end: int
) -> None:
    url = f"/v1/blobs/{hub.add_blob(DATA)}"
    answer = client.get(url, headers={"range": f"bytes={wanted}"})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/256000"


def test_a_range_past_the_end_is_refused(client: httpx.Client, hub: MemoryHub) -> None:
    url = f"/v1/blobs/{hub.add_blob(DATA)}"
    answer = client.get(url, headers={"range": "bytes=256000-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"].endswith("/256000")


def test_a_range_of_something_else_brings_the_whole(client: httpx.Client, hub: MemoryHub) -> None:
    url = f"/v1/blobs/{hub.add_blob(DATA)}"
    other = {"range": "bytes=0-9", "if-range": f'"{"0" * 64}"'}
    assert client.get(url, headers=other).status_code == 200


@pytest.mark.parametrize(
    "name", ["0" * 64, "short", "A" * 64, "..%2f..%2fetc%2fpasswd", "../../etc/passwd", "0" * 65]
)
def test_what_is_not_a_known_blob_is_not_found(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/v1/blobs/{name}")
    assert answer.status_code == 404
    assert answer.json()["kind"] == "not_found"
