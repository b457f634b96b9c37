import pytest

from hub.api.control import JobDetail, JobSummary
from hub.cli.client import HubClient
from hub.cli.follow import follow
from hub.errors import NotFoundError, UnreachableError


def detail(phase: str) -> JobDetail:
    summary = JobSummary(job="notes", phase=phase, method="lora", base="b", round=1, rounds=1)
    return JobDetail(summary=summary, file="")


class Answers(HubClient):
    """Answers with what it was given, one after the other."""

    def __init__(self, *answers: object) -> None:
        super().__init__("http://127.0.0.1:9")
        self._answers = list(answers)

    def job(self, name: str) -> JobDetail:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, JobDetail)
        return answer


@pytest.mark.parametrize("phase", ["done", "failed", "cancelled"])
def test_it_ends_with_the_job_and_waits_for_a_hub_that_is_away(
    phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []
    answers = [detail("open"), UnreachableError("away."), detail("open"), detail(phase)]
    with Answers(*answers) as client:
        assert follow(client, "notes", pauses.append).summary.phase == phase
    captured = capsys.readouterr()
    assert "away. Waiting for it." in captured.err
    assert captured.out == ""
    assert len(pauses) == 3


def test_a_job_that_is_not_there_is_not_waited_for() -> None:
    with Answers(NotFoundError("none")) as client, pytest.raises(NotFoundError):
        follow(client, "notes", lambda _: None)
