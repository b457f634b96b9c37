"""Which file of a base an engine here reads: the base's own, or a derived one, here or fetched.

A device with torch trains on a folder of Hugging Face's layout, which no engine reads. The hub
makes a GGUF or ONNX file of it (`wire.derived`), which is fetched for serving alone.
"""

import logging
import threading
from pathlib import Path

from edge_agent.errors import AgentError, StoppedError
from edge_agent.fetch_derived import fetch_derived
from edge_agent.inference.errors import EngineError
from edge_agent.runtimes import LLAMA, ONNX, present_runtimes
from edge_agent.serving_state import ServedJob
from wire.derived import DERIVED

log = logging.getLogger(__name__)

#: What each engine's files end with.
_ENDINGS = {LLAMA: "*.gguf", ONNX: "*.onnx"}


def engines(wanted: str | None) -> list[str]:
    """Return the engines that may serve, the best first.

    Args:
        wanted: the one that was asked for; None for any.

    Raises:
        EngineError: none is installed.
    """
    present = [one for one in present_runtimes() if one in _ENDINGS]
    found = [one for one in present if wanted in (None, one)]
    if not found:
        raise EngineError(
            f"{wanted or 'No engine'} is {'not ' if wanted else ''}installed. Install one: "
            "pip install 'lorikeet[llama]' or 'lorikeet[onnx]'."
        )
    return found


def base_of(
    models: Path,
    job: ServedJob,
    http: str | None,
    wanted: str | None,
    stop: threading.Event,
) -> Path:
    """Return the folder of a base that an engine here reads.

    Args:
        models: the agent's folder of bases.
        job: whose base it is.
        http: the hub's address, where it is known.
        wanted: the engine that was asked for; None for any.
        stop: ends the waiting for it, and its download.

    Raises:
        EngineError: there is none, and none can be had.
        StoppedError: `stop` was set meanwhile.
    """

    def go_on(*_: object) -> None:
        if stop.is_set():
            raise StoppedError("stopped before the base was there; another try goes on from here.")

    found = engines(wanted)
    names = [f"{job.base}-{kind}" for kind in DERIVED if DERIVED[kind].runtime in found]
    # What the hub prefers comes first.
    kinds = [kind for kind in job.derived if kind in DERIVED and DERIVED[kind].runtime in found]
    for name in dict.fromkeys([*(f"{job.base}-{kind}" for kind in kinds), *names, job.base]):
        folder = models / name
        if (folder / "complete").is_file() and any(
            any(folder.glob(_ENDINGS[engine])) for engine in found
        ):
            return folder
    refused = ""
    for kind in kinds if http is not None else []:
        folder = models / f"{job.base}-{kind}"
        log.info("fetching the base as %s, which %s reads", kind, DERIVED[kind].runtime)
        try:
            fetch_derived(
                str(http),
                job.base,
                kind,
                str(folder),
                go_on,
                wait=lambda seconds: go_on(stop.wait(seconds)),
            )
        except StoppedError:
            raise
        except AgentError as error:
            refused = f" {error}"
        else:
            return folder
    raise EngineError(
        f"the base of job {job.job} is here in no form that {' or '.join(found)} reads, and the "
        f"hub offers none.{refused} Export it there (lorikeet-hub adapter export {job.job} "
        "--format gguf) and name the file: --model FILE."
    )
