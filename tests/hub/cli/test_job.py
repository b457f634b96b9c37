import io
from pathlib import Path

import pytest

from hub.api.control import Round
from hub.cli.job import _own_text_lines
from tests.hub.api.served import JOB, REASON, MemoryHub
from tests.hub.cli.conftest import Run


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return str(path)


def test_submit_prints_the_name_and_how_to_follow(run: Run, hub: MemoryHub, job_file: str) -> None:
    ended = run("job", "submit", job_file)
    assert ended.code == 0
    assert "notes: submitted, 2 rounds on tiny." in ended.out
    assert "lorikeet-hub job show notes --hub http://127.0.0.1:" in ended.out


def test_submit_takes_stdin(run: Run, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(JOB.encode())))
    assert run("job", "submit", "-", "--json").document["job"] == "notes"


def test_a_base_beside_the_job_file_reaches_the_hub_as_an_absolute_path(
    run: Run, hub: MemoryHub, job_file: str, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    assert run("job", "submit", job_file).code == 0
    assert str(tmp_path / "base") in hub.texts[0]


def test_a_bad_job_file_exits_2_with_the_path(run: Run, hub: MemoryHub, job_file: str) -> None:
    Path(job_file).write_text(JOB + "lora: {rnk: 4}\n")
    ended = run("job", "submit", job_file, "--json")
    assert (ended.code, ended.out) == (2, "")
    assert "lora.rnk is not known; did you mean lora.rank?" in ended.err


def test_a_missing_job_file_exits_2(run: Run, hub: MemoryHub) -> None:
    ended = run("job", "submit", "none.yaml")
    assert ended.code == 2
    assert "none.yaml can't be read" in ended.err


def test_a_second_job_of_one_name_exits_1(run: Run, hub: MemoryHub, job_file: str) -> None:
    assert run("job", "submit", job_file).code == 0
    ended = run("job", "submit", job_file)
    assert ended.code == 1
    assert "there is one of this name" in ended.err


def test_wait_follows_until_the_end(run: Run, hub: MemoryHub, job_file: str) -> None:
    ended = run("job", "submit", job_file, "--wait")
    assert ended.code == 0
    assert "notes: round 1 of 2, training, held-out loss 2.2500, worst tenth 2.3750" in ended.err
    assert "notes: done, round 2 of 2" in ended.out


def test_wait_with_json_prints_one_document(run: Run, hub: MemoryHub, job_file: str) -> None:
    document = run("job", "submit", job_file, "--wait", "--json").document
    assert document["summary"]["phase"] == "done"
    assert [entry["heldout_loss"] for entry in document["rounds"]] == [2.25, 2.0]
    measured = [(one["worst_tenth"], one["spread"]) for one in document["rounds"]]
    assert measured == [(2.375, 0.0625), (2.125, 0.0625)]


def test_wait_exits_1_when_the_job_failed(run: Run, hub: MemoryHub, job_file: str) -> None:
    hub.ends_as = "failed"
    assert run("job", "submit", job_file, "--wait").code == 1


def test_show_prints_rounds_and_members_with_the_reason(
    run: Run, hub: MemoryHub, job_file: str
) -> None:
    run("job", "submit", job_file)
    out = run("job", "show", "notes").out
    assert "untuned loss 2.5000" in out
    for words in (
        "2.2500",
        "2.3750",
        "0.0625",
        "1 of 1",
        "clinic-1",
        "lora",
        "streamed",
        "int8",
        REASON,
    ):
        assert words in out
    assert "clinic-2 was left out: it is asleep" in out
    assert "loss without the soft prompt: 2.3125" in out
    assert "2.6250" in out
    assert "2.1250" in out


def test_show_takes_a_round(run: Run, hub: MemoryHub, job_file: str) -> None:
    run("job", "submit", job_file, "--wait")
    assert "devices of round 1" in run("job", "show", "notes", "--round", "1").out
    assert "devices of round 2" in run("job", "show", "notes").out
    ended = run("job", "show", "notes", "--round", "9")
    assert ended.code == 1
    assert "--round is 9" in ended.err


def test_list_and_cancel(run: Run, hub: MemoryHub, job_file: str) -> None:
    assert run("job", "list", "--json").document == []
    run("job", "submit", job_file)
    assert "notes" in run("job", "list").out
    assert "notes: cancelled" in run("job", "cancel", "notes").out
    assert run("job", "cancel", "notes", "--json").document["phase"] == "cancelled"


@pytest.mark.parametrize("verb", ["show", "cancel"])
def test_an_unknown_job_exits_1(run: Run, hub: MemoryHub, verb: str) -> None:
    ended = run("job", verb, "none", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert "job is 'none'; there is none of this name." in ended.err


@pytest.mark.parametrize("name", ["..", "a/b", ""])
def test_a_name_that_is_no_name_exits_2(run: Run, hub: MemoryHub, name: str) -> None:
    assert run("job", "show", name).code == 2


def test_what_the_hub_did_with_its_own_text_is_said_in_words() -> None:
    own = {
        "public_loss_first": 2.5, "public_loss_last": 2.25, "public_tokens": 512.0,
        "public_s": 3.04, "validation_loss": 2.0, "validation_base_loss": 2.75,
    }  # fmt: skip
    assert _own_text_lines(Round(round=1, phase="published", own_text=own)) == [
        "round 1 on the hub's public text: training loss 2.5000 to 2.2500, 512 tokens in 3.0 s",
        "untuned loss on the hub's text: 2.7500",
    ]
    failed = Round(round=2, phase="published", problem="hub.public_data: it took too long.")
    assert _own_text_lines(failed) == [
        "round 2 went on without: hub.public_data: it took too long."
    ]
    assert _own_text_lines(Round(round=3, phase="published")) == []
