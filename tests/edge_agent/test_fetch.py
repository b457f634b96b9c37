"""Fetching a base from a real HTTP server that cuts, lies, and resumes."""

import fcntl
import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edge_agent import fetch as module
from edge_agent.fetch import COMPLETE, FetchError, fetch
from edge_agent.throttle import DayUsedUpError, Throttle


class Hub(ThreadingHTTPServer):
    """Serves blobs by sha256; ``cuts`` says after how many bytes the next answers break off."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs = {}
        self.models = {}
        self.cuts = []
        self.ranges = True
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, files, **changes):
        listed = [
            {"path": path, "sha256": self.add(data), "size_bytes": len(data), **changes}
            for path, data in files.items()
        ]
        manifest = json.dumps({"files": listed}).encode()
        digest = hashlib.sha256(manifest).hexdigest()
        self.models[digest] = manifest
        return digest

    def add(self, data):
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[sha256] = data
        return sha256


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server
        kind, name = self.path.removeprefix("/v1/").split("/")
        data = {"models": hub.models, "blobs": hub.blobs}[kind].get(name)
        if data is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        hub.asked.append((kind, wanted))
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and hub.ranges else 0
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        body = data[first:]
        if kind == "blobs" and hub.cuts:
            body = body[: hub.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Wait next to nothing between attempts."""
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 1e-4)


FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(range(256)) * 4000,
    "onnx/notes.txt": b"in a folder",
}
SIZE = sum(map(len, FILES.values()))


def get(hub, digest, folder, told=None):
    told = [] if told is None else told
    return fetch(hub.url, digest, str(folder), lambda done, total: told.append((done, total)))


def test_every_file_comes_and_the_mark_comes_last(hub, tmp_path):
    digest, told = hub.publish(FILES), []
    downloaded = get(hub, digest, tmp_path, told)
    assert {path: (tmp_path / path).read_bytes() for path in FILES} == FILES
    assert hashlib.sha256((tmp_path / COMPLETE).read_bytes()).hexdigest() == digest
    assert downloaded == SIZE + len(hub.models[digest])
    assert told[-1] == (SIZE, SIZE)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        COMPLETE, "config.json", "model.safetensors", "onnx",
    ]  # fmt: skip


def test_a_connection_that_is_cut_goes_on_where_it_ended(hub, tmp_path):
    digest = hub.publish({"model.safetensors": FILES["model.safetensors"]})
    hub.cuts = [400_000, 300_000]
    downloaded = get(hub, digest, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    wanted = [wanted for kind, wanted in hub.asked if kind == "blobs"]
    assert wanted == [None, "bytes=400000-", "bytes=700000-"]
    assert downloaded == 1_024_000 + len(hub.models[digest])


def test_a_hub_without_range_starts_over_and_still_serves(hub, tmp_path):
    digest = hub.publish(FILES)
    hub.cuts, hub.ranges = [10, 400_000], False
    get(hub, digest, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_later_call_resumes_and_asks_for_nothing_twice(hub, tmp_path):
    digest = hub.publish(FILES)
    hub.cuts = [len(FILES["config.json"]), 5000] + [0] * 5
    with pytest.raises(FetchError, match="5000 of 1024000 bytes are kept"):
        get(hub, digest, tmp_path)
    assert not (tmp_path / COMPLETE).exists()
    hub.asked.clear()
    get(hub, digest, tmp_path)
    assert [wanted for kind, wanted in hub.asked if kind == "blobs"] == ["bytes=5000-", None]
    hub.asked.clear()
    assert get(hub, digest, tmp_path) == len(hub.models[digest])
    assert [kind for kind, _ in hub.asked] == ["models"]


def test_bytes_with_another_hash_are_thrown_away(hub, tmp_path):
    digest = hub.publish(FILES)
    sha256 = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    hub.blobs[sha256] = b"x" * len(FILES["model.safetensors"])
    with pytest.raises(FetchError, match="another sha256"):
        get(hub, digest, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    hub.blobs[sha256] = FILES["model.safetensors"]
    get(hub, digest, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_more_bytes_than_announced_are_not_read(hub, tmp_path):
    digest = hub.publish(FILES, size_bytes=7)
    with pytest.raises(FetchError, match="another sha256"):
        get(hub, digest, tmp_path)


def test_a_manifest_that_is_not_its_digest_is_refused(hub, tmp_path):
    digest = hub.publish(FILES)
    hub.models[digest] += b" "
    with pytest.raises(FetchError, match="not what its digest says"):
        get(hub, digest, tmp_path)


@pytest.mark.parametrize(
    "path",
    ["../config.json", "/etc/config.json", "a/../../b.json", "a\\b.json", "./a.json",
     ".hidden.json", "a//b.json", ".partial/a.json", "a\0.json"],
)  # fmt: skip
def test_paths_that_lead_elsewhere_are_refused(hub, tmp_path, path):
    folder = tmp_path / "models" / "one"
    with pytest.raises(FetchError, match="plain relative paths"):
        get(hub, hub.publish({path: b"{}"}), folder)
    assert not folder.exists()


@pytest.mark.parametrize("path", ["pytorch_model.bin", "model.pkl", "modeling.py", "complete"])
def test_formats_that_can_run_code_are_refused(hub, tmp_path, path):
    with pytest.raises(FetchError, match="only files ending in"):
        get(hub, hub.publish({path: b"cos\nsystem\n"}), tmp_path)


def test_a_model_that_does_not_fit_on_the_disk_is_refused_before_it_is_fetched(hub, tmp_path):
    digest = hub.publish({"model.safetensors": b"tiny"}, size_bytes=2**42)
    with pytest.raises(FetchError, match="more bytes on disk"):
        get(hub, digest, tmp_path)
    assert [kind for kind, _ in hub.asked] == ["models"]


def test_two_that_fetch_the_same_at_once_come_one_after_the_other(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 1e-3)
    digest = hub.publish({"model.safetensors": FILES["model.safetensors"]})
    begun, second_told, results = threading.Event(), threading.Event(), {}

    def first(done, total):
        begun.set()
        if 0 < done < total:
            second_told.wait(10)

    def run(name, told):
        results[name] = fetch(hub.url, digest, str(tmp_path), told)

    threads = [
        threading.Thread(target=run, args=("first", first)),
        threading.Thread(target=run, args=("second", lambda *_: second_told.set())),
    ]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert (tmp_path / COMPLETE).read_bytes() == hub.models[digest]
    assert results == {
        "first": len(FILES["model.safetensors"]) + len(hub.models[digest]),
        "second": len(hub.models[digest]),
    }
    assert [wanted for kind, wanted in hub.asked if kind == "blobs"] == [None]
    assert sorted(path.name for path in tmp_path.iterdir()) == [COMPLETE, "model.safetensors"]


def test_who_waits_for_another_one_s_fetch_may_give_up(hub, tmp_path):
    digest = hub.publish(FILES)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)

    def stop(_done, _total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fetch(hub.url, digest, str(tmp_path), stop)
    assert [kind for kind, _ in hub.asked] == ["models"]
    os.close(folder)
    assert get(hub, digest, tmp_path) == SIZE + len(hub.models[digest])


def test_a_hub_that_is_away_is_a_fetch_error(tmp_path):
    with pytest.raises(FetchError, match="can't be fetched"):
        fetch("http://127.0.0.1:1", "0" * 64, str(tmp_path), lambda *_: None)


def test_only_http_is_spoken(tmp_path):
    with pytest.raises(FetchError, match="must begin with http"):
        fetch("file:///etc", "0" * 64, str(tmp_path), lambda *_: None)


def test_a_day_that_is_used_up_keeps_what_came_and_the_next_goes_on(hub, tmp_path):
    data = bytes(600_000)
    digest = hub.publish({"model.safetensors": data})
    with pytest.raises(DayUsedUpError, match="00:00 UTC"):
        fetch(hub.url, digest, str(tmp_path), lambda *_: None, Throttle(most_bytes=300_000))
    throttle = Throttle(most_bytes=400_000)
    fetch(hub.url, digest, str(tmp_path), lambda *_: None, throttle)
    assert (tmp_path / "model.safetensors").read_bytes() == data
    assert throttle.passed_bytes == 600_000 - 262_144
