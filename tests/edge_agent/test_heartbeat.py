"""Signs of life, and the end of an agent that is stuck."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from edge_agent.heartbeat import FILE, WRITE_S, Heartbeat, Sign, read_sign


def sign(ts: float, state: str = "ready") -> Sign:
    return Sign(pid=1, device="d", session="s", ts=ts, welcomed=True, state=state)


def test_a_sign_is_written_at_once_when_something_changed_and_else_seldom(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path)
    heartbeat.beat(10.0, sign(1.0))
    heartbeat.beat(11.0, sign(2.0))
    assert read_sign(tmp_path) == sign(1.0)
    heartbeat.beat(12.0, sign(3.0, "alert"))
    assert read_sign(tmp_path) == sign(3.0, "alert")
    heartbeat.beat(12.0 + WRITE_S, sign(4.0, "alert"))
    assert read_sign(tmp_path) == sign(4.0, "alert")
    heartbeat.end()
    assert read_sign(tmp_path) is None


def test_what_is_no_sign_is_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    assert read_sign(tmp_path) is None


def test_a_full_disk_does_not_end_the_agent(tmp_path: Path) -> None:
    Heartbeat(tmp_path / "gone").beat(1.0, sign(1.0))


def test_a_stuck_agent_ends_with_its_stacks_in_the_log(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from edge_agent.heartbeat import Heartbeat\n"
        "Heartbeat(pathlib.Path(sys.argv[1]), stuck_s=0.2).begin()\n"
        "def hangs(): time.sleep(60)\n"
        "hangs()\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "in hangs" in done.stderr
    assert time.monotonic() - began < 50  # it did not sleep to its end


def test_one_that_turns_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from edge_agent.heartbeat import Heartbeat, Sign\n"
        "one = Heartbeat(pathlib.Path(sys.argv[1]), stuck_s=2.0)\n"
        "one.begin()\n"
        "sign = Sign(pid=1, device='d', session='s', ts=0.0, welcomed=True, state='ready')\n"
        "for _ in range(30):\n"
        "    one.beat(time.monotonic(), sign)\n"
        "    time.sleep(0.1)\n"
        "one.end()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_process_that_was_frozen_gets_its_turn_first(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from edge_agent.heartbeat import Heartbeat, Sign\n"
        "one = Heartbeat(pathlib.Path(sys.argv[1]), stuck_s=1.0)\n"
        "sign = Sign(pid=1, device='d', session='s', ts=0.0, welcomed=True, state='ready')\n"
        "one.begin()\n"
        "print('here', flush=True)\n"
        "for _ in range(40):\n"
        "    one.beat(time.monotonic(), sign)\n"
        "    time.sleep(0.1)\n"
        "one.end()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(2):
                process.send_signal(signal.SIGSTOP)
                time.sleep(1.5)  # longer than it may be stuck
                process.send_signal(signal.SIGCONT)
                time.sleep(0.3)
            assert process.wait(60) == 0
        finally:
            process.kill()
