"""From settings to a service that answers, and that takes every new adapter of its agent."""

import fcntl
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from edge_agent.errors import AgentError, StoppedError, UsageError
from edge_agent.inference.contract import Adapter
from edge_agent.inference.open import open_engine
from edge_agent.serve_command import ServeSettings
from edge_agent.serving.adapter_folder import read_adapter_folder
from edge_agent.serving.attached import Attached
from edge_agent.serving.base_choice import base_of, engines
from edge_agent.serving.scheduler import Scheduler
from edge_agent.serving.service import Service
from edge_agent.serving.user_waits import UserWaits
from edge_agent.serving_state import ServedJob, UserLock
from edge_agent.training.heap import trim_heap
from edge_agent.training.tokenizer import load_tokenizer
from wire.errors import WireError
from wire.model_file import config_of
from wire.quiet_log import QuietLog

log = logging.getLogger(__name__)

LOOK_S = 1.0


class Served:
    """A service, and the agent that it is attached to.

    Args:
        settings: what it was started with.
        stop: ends the waiting for an agent's first adapter, and for a base that the hub makes.
        look_s: how often is looked for a new adapter.

    Raises:
        AgentError: there is nothing that can be served.
        StoppedError: `stop` was set while it waited.
        UsageError: settings contradict one another.
    """

    def __init__(
        self, settings: ServeSettings, stop: threading.Event, look_s: float = LOOK_S
    ) -> None:
        self._stop = stop
        self._look_s = look_s
        self._quiet = QuietLog(log)
        self._failed = ""  # manifest of an adapter that can't be served
        folder = Path(settings.state)
        self._attached: Attached | None = None
        self._job: ServedJob | None = None
        if settings.adapter is None and (settings.model is None or settings.job):
            self._attached = Attached(folder, settings.job)
            self._job = self._first_job(self._attached)
        self._waits = UserWaits(UserLock(folder)) if folder.is_dir() else None
        model = self._model(settings)
        self.service = _service(settings, model, self._name(settings, model), self._tell())
        try:
            self.service.use(self._adapter(settings))
        except BaseException:
            self.service.close()
            raise
        trim_heap()  # the adapter's values were read, and are the engine's now
        self._watching = threading.Thread(target=self._watch, name="adapters", daemon=True)
        if self._attached is not None:
            self._watching.start()

    def close(self) -> None:
        """End all answers, and give up the model."""
        self._stop.set()
        if self._watching.is_alive():
            self._watching.join()
        self.service.close()
        if self._waits is not None:
            self._waits.close()

    def _tell(self) -> Callable[[bool], None]:
        return self._waits.tell if self._waits is not None else lambda _waits: None

    def _first_job(self, attached: Attached) -> ServedJob:
        told = False
        while (job := attached.look()) is None:
            if not agent_runs(attached.folder):
                raise UsageError(
                    f"{attached.folder} holds no adapter, and no agent runs there. Start one "
                    "(lorikeet-agent run ...), name its --state, or give --model FILE."
                )
            if not told:
                log.info("waiting for the first adapter of the agent in %s", attached.folder)
                told = True
            if self._stop.wait(self._look_s):
                raise StoppedError("stopped before there was an adapter to serve.")
        return job

    def _model(self, settings: ServeSettings) -> Path:
        if settings.model is not None:
            engines(settings.engine)
            return Path(settings.model)
        if self._attached is None or self._job is None:
            raise UsageError("--adapter was given without --model; an adapter needs its base.")
        models = self._attached.folder / "models"
        return base_of(models, self._job, self._attached.http, settings.engine, self._stop)

    def _name(self, settings: ServeSettings, model: Path) -> str:
        if self._job is not None:
            return self._job.job
        return Path(settings.adapter).name if settings.adapter else model.stem

    def _adapter(self, settings: ServeSettings) -> Adapter | None:
        if settings.adapter is not None:
            return read_adapter_folder(Path(settings.adapter))
        if self._attached is None or self._job is None:
            return None
        return self._attached.adapter(self._job)

    def _watch(self) -> None:
        """Take each new adapter of the agent; one that can't be served leaves the one before."""
        while not self._stop.wait(self._look_s):
            try:
                self._renew()
            except (AgentError, WireError, OSError) as error:
                self._quiet.warn("the adapter", f"the adapter stays as it is: {error}")

    def _renew(self) -> None:
        if not self.service.scheduler.settled:
            return  # each session takes memory: slow answers may go on by one old one, not by many
        attached, known = self._attached, self._job
        job = attached.look() if attached is not None else None
        if attached is None or known is None or job is None or job.manifest == known.manifest:
            return
        if job.manifest == self._failed:
            return
        if job.base != known.base:
            self._failed = job.manifest
            raise AgentError(f"job {job.job} has another base now; start the server again.")
        try:
            self.service.use(attached.adapter(job))
        except AgentError:
            if attached.look() == job:  # else it was replaced while it was read
                self._failed = job.manifest
            raise
        self._job = job
        log.info("the adapter of round %d is served (%s)", job.round, job.manifest[:12])
        trim_heap()


def agent_runs(folder: Path) -> bool:
    """Return whether an agent holds a state folder."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _service(
    settings: ServeSettings, model: Path, name: str, tell: Callable[[bool], None]
) -> Service:
    described = model.parent if model.suffix == ".onnx" else model  # files that stand beside it
    longest = int(config_of(described).get("max_position_embeddings") or settings.context)
    context = min(settings.context, longest)
    if context < settings.context:
        log.info("the model has %d positions: --context is %d", longest, context)
    tokenizer = load_tokenizer(described)
    engine = open_engine(model, settings.threads, runtime=settings.engine, repack=settings.repack)
    return Service(
        engine,
        tokenizer,
        Scheduler(queue=settings.queue, tell_waiting=tell),
        name=name,
        slots=settings.slots,
        context=context,
    )
