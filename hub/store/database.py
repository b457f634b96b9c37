"""The hub's database: jobs, devices and each job's log of events.

One thread writes, the coordinator's; any thread may read, on a connection of its own. SQLite runs
with a write-ahead log, so that readers don't wait for the writer, and with ``synchronous=FULL``:
what `Store.append` has returned from survives a kill of the process and a loss of power.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, create_engine, delete, event, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from hub.errors import ConflictError, NotFoundError
from hub.rounds.events import Event, decode_event, encode_event
from hub.rounds.round import replay
from hub.rounds.state import JobState
from hub.store.errors import StoreError
from hub.store.identities import IdentityStore
from hub.store.tables import DEVICES, EVENTS, JOBS, METADATA

#: Events that are read at once: a long log costs no memory.
PAGE = 500


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job, besides its events."""

    job: str
    spec: Any  # plain JSON values
    created: float  # Unix time, seconds
    status: str


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a log, its payload not parsed."""

    seq: int  # rising over all jobs
    at: float  # Unix time, seconds
    kind: str
    payload: str  # JSON


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a device."""

    device: str
    session: str | None
    first_seen: float
    last_seen: float
    state: str
    info: Any = None  # plain JSON values


class Store:
    """The database behind an URL such as ``sqlite:///state/hub.db``.

    Args:
        url: SQLAlchemy's; a SQLite file's folder is made.

    Raises:
        StoreError: it can't be opened, or it is in memory and would forget.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self.identities = IdentityStore(self._engine)
        try:
            METADATA.create_all(self._engine)
        except SQLAlchemyError as error:
            shown = make_url(url).render_as_string(hide_password=True)
            raise StoreError(
                f"the database {shown} can't be opened: {_cause(error)}. Set store.database."
            ) from error

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    # Events

    def append(self, job: str, what: Event, at: float) -> int:
        """Write an event; it is on disk when this returns.

        Returns:
            Its number, higher than those of all events before.

        Raises:
            StoreError: it can't be written; then it must not take effect.
        """
        try:
            payload = encode_event(what)
        except ValueError as error:
            raise StoreError(str(error)) from error
        row = {"job": job, "at": at, "kind": type(what).__name__, "payload": payload.decode()}
        try:
            with self._engine.begin() as connection:
                key = connection.execute(insert(EVENTS).values(row)).inserted_primary_key
        except SQLAlchemyError as error:
            raise StoreError(
                f"event {row['kind']} of job {job} can't be written: {_cause(error)}"
            ) from error
        return int(key[0]) if key else 0

    def events(self, job: str, after: int = 0, limit: int = PAGE) -> list[EventRow]:
        """Return the entries of a job's log that follow a number, at most ``limit``."""
        columns = (EVENTS.c.seq, EVENTS.c.at, EVENTS.c.kind, EVENTS.c.payload)
        query = (
            select(*columns)
            .where(EVENTS.c.job == job, EVENTS.c.seq > after)
            .order_by(EVENTS.c.seq)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [EventRow(**row._mapping) for row in connection.execute(query)]

    def read(self, job: str) -> Iterator[tuple[float, Event]]:
        """Yield a job's log in order, as (time, event).

        Raises:
            StoreError: an entry is none that this version knows.
        """
        after = 0
        while page := self.events(job, after, PAGE):
            for row in page:
                try:
                    yield row.at, decode_event(row.payload)
                except msgspec.DecodeError as error:
                    raise StoreError(
                        f"event {row.seq} ({row.kind}) of job {job} can't be read: {error}. "
                        "Was it written by a newer hub?"
                    ) from error
            after = page[-1].seq

    def replay(self, job: str) -> JobState:
        """Return the state that a job's log leads to."""
        return replay(self.read(job))

    def last_at(self, job: str) -> float | None:
        """Return when the job's last event was; None: it has none."""
        query = (
            select(EVENTS.c.at).where(EVENTS.c.job == job).order_by(EVENTS.c.seq.desc()).limit(1)
        )
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def count(self, job: str) -> int:
        """Return the number of a job's events."""
        query = select(func.count()).select_from(EVENTS).where(EVENTS.c.job == job)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    # Jobs

    def add_job(self, job: str, spec: Any, created: float, status: str = "open") -> None:
        """Write a new job.

        Args:
            spec: a msgspec struct or plain JSON values.

        Raises:
            ConflictError: there is one of this name.
        """
        row = {
            "job": job,
            "spec": msgspec.to_builtins(spec),
            "created": created,
            "status": status,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(JOBS).values(row))
        except IntegrityError as error:
            raise ConflictError(
                f"there is a job {job!r} already; give this one another name."
            ) from error

    def jobs(self) -> list[JobRow]:
        """Return all jobs, the oldest first."""
        query = select(JOBS).order_by(JOBS.c.created, JOBS.c.job)
        with self._engine.connect() as connection:
            return [JobRow(**row._mapping) for row in connection.execute(query)]

    def status(self, job: str, status: str) -> None:
        """Note where a job stands; the log stays the truth."""
        with self._engine.begin() as connection:
            connection.execute(update(JOBS).where(JOBS.c.job == job).values(status=status))

    def status_of(self, job: str) -> str:
        """Return where a job stands.

        Raises:
            NotFoundError: there is no such job.
        """
        query = select(JOBS.c.status).where(JOBS.c.job == job)
        with self._engine.connect() as connection:
            status = connection.execute(query).scalar_one_or_none()
        if status is None:
            raise NotFoundError(f"there is no job {job!r}.")
        return str(status)

    # Devices

    def save_device(self, device: DeviceRow) -> None:
        """Write what is known of a device over what was."""
        row = msgspec.structs.asdict(device)
        row["info"] = msgspec.to_builtins(device.info)
        with self._engine.begin() as connection:
            found = connection.execute(
                update(DEVICES).where(DEVICES.c.device == device.device).values(row)
            )
            if found.rowcount == 0:
                connection.execute(insert(DEVICES).values(row))

    def forget_devices(self, devices: list[str]) -> None:
        """Delete what is known of devices; one that isn't known is no error."""
        with self._engine.begin() as connection:
            for device in devices:
                connection.execute(delete(DEVICES).where(DEVICES.c.device == device))

    def devices(self) -> list[DeviceRow]:
        """Return all devices, by id."""
        query = select(DEVICES).order_by(DEVICES.c.device)
        with self._engine.connect() as connection:
            return [DeviceRow(**row._mapping) for row in connection.execute(query)]


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise StoreError(
                    f"the database {url} is in memory and forgets; use sqlite:///PATH."
                )
            Path(str(parsed.database)).absolute().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed)
    except (ArgumentError, ModuleNotFoundError, SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"the database can't be opened: {_cause(error)}. Set store.database."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=10000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _cause(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error)
