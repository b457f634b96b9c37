import io
import zipfile

import httpx
import pytest

from tests.hub.api.served import JOB, MemoryHub

YAML = {"content-type": "application/yaml"}


def submit(client: httpx.Client, text: str | bytes = JOB) -> httpx.Response:
    return client.post("/v1/jobs", content=text, headers=YAML)


def test_a_job_is_submitted_listed_shown_and_cancelled(client: httpx.Client) -> None:
    answer = submit(client)
    assert (answer.status_code, answer.json()["job"]) == (201, "notes")
    assert [job["job"] for job in client.get("/v1/jobs").json()] == ["notes"]
    shown = client.get("/v1/jobs/notes").json()
    assert shown["file"] == JOB
    assert shown["rounds"][0]["members"][0]["device"] == "clinic-1"
    assert client.delete("/v1/jobs/notes").json()["phase"] == "cancelled"
    assert client.get("/v1/jobs/notes/events").json()[0]["kind"] == "submitted"


def test_a_bad_job_file_is_answered_with_its_path(client: httpx.Client, hub: MemoryHub) -> None:
    answer = submit(client, JOB + "lora: {rnk: 4}\n")
    assert answer.status_code == 422
    assert answer.json() == {
        "error": "lora.rnk is not known; did you mean lora.rank? "
        "Allowed here: lora.rank, lora.min_rank, lora.targets, lora.rank_pattern.",
        "kind": "config",
        "path": "lora.rnk",
        "value": 4,
        "allowed": "lora.rank, lora.min_rank, lora.targets, lora.rank_pattern",
    }
    assert not hub.jobs


def test_a_second_job_of_one_name_is_a_conflict(client: httpx.Client) -> None:
    assert submit(client).status_code == 201
    answer = submit(client)
    assert (answer.status_code, answer.json()["kind"]) == (409, "conflict")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_what_a_foreign_web_page_may_send_is_refused(
    client: httpx.Client, hub: MemoryHub, media_type: str
) -> None:
    answer = client.post("/v1/jobs", content=JOB, headers={"content-type": media_type})
    assert answer.status_code == 415
    assert "application/yaml" in answer.json()["error"]
    assert not hub.texts


def test_a_body_past_the_cap_is_refused_unread(client: httpx.Client, hub: MemoryHub) -> None:
    answer = submit(client, b"#" * (256 * 1024 + 1))
    assert answer.status_code == 413
    assert not hub.texts


def test_a_body_that_is_no_text_is_refused(client: httpx.Client) -> None:
    assert submit(client, b"job: \xff").status_code == 422


@pytest.mark.parametrize("path", ["", "/events", "/adapter"])
def test_an_unknown_job_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/v1/jobs/none{path}")
    assert (answer.status_code, answer.json()["kind"]) == (404, "not_found")


def test_the_adapter_comes_as_a_zip_once_there_is_one(client: httpx.Client, hub: MemoryHub) -> None:
    submit(client)
    assert client.get("/v1/jobs/notes/adapter").status_code == 404
    client.get("/v1/jobs/notes")  # ends a round
    (hub.folder / "adapter").mkdir()
    (hub.folder / "adapter" / "adapter_config.json").write_text("{}")
    answer = client.get("/v1/jobs/notes/adapter")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read("adapter_config.json") == b"{}"
