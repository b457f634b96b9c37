"""The database's tables, the same for SQLite and PostgreSQL."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA = MetaData()

# SQLite only numbers a column of type INTEGER by itself; PostgreSQL's INTEGER ends at 2^31.
SEQ = BigInteger().with_variant(Integer, "sqlite")
_JSON = JSON().with_variant(JSONB, "postgresql")
_NAME = String(63)

JOBS = Table(
    "jobs",
    METADATA,
    Column("job", _NAME, primary_key=True),
    Column("spec", _JSON, nullable=False),
    Column("created", Double, nullable=False),  # Unix time, seconds
    Column("status", String(16), nullable=False),
)

# A payload is the very text that was logged: a database that rewrites numbers would change
# what a replay sees.
EVENTS = Table(
    "events",
    METADATA,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("job", _NAME, ForeignKey("jobs.job"), nullable=False),
    Column("at", Double, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("payload", Text, nullable=False),
    Index("events_of_job", "job", "seq"),
    sqlite_autoincrement=True,
)

DEVICES = Table(
    "devices",
    METADATA,
    Column("device", _NAME, primary_key=True),
    Column("session", String(63), nullable=True),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("state", String(16), nullable=False),
    Column("info", _JSON, nullable=True),
)
