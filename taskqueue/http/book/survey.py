"""What `taskqueue doctor` wants to know of a book, in one look that changes nothing: version, tokens, fronts, origins,
what died of late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskqueue.http.book import origins, schema, tokens
from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.origins import Origin
from taskqueue.http.book.tokens import Token
from taskqueue.http.book.watching import DEAD_MS

_DAY_MS = 86_400_000
_DEAD_LIMIT = 10


@dataclass(frozen=True, slots=True)
class FrontRow:
    """A front that beats in the book."""

    front: str
    host: str
    version: str
    config_hash: str


@dataclass(frozen=True, slots=True)
class Deaths:
    """Tasks of one queue that died within the last day, all for one origin or worker type."""

    queue: str
    target: str
    count: int


@dataclass(frozen=True, slots=True)
class Survey:
    """A book at one moment. All but the versions is empty where this program does not know the tables."""

    now_ms: int
    version: int
    """0 for a book without tables."""
    wanted: int
    """The version of this program."""
    tokens: Sequence[Token] = ()
    fronts: Sequence[FrontRow] = ()
    """Those that are alive."""
    origins: Sequence[Origin] = ()
    """Those to which nothing is sent now."""
    deaths: Sequence[Deaths] = ()
    """The most first, ten rows at most."""

    @property
    def is_known(self) -> bool:
        """Whether this program knows the tables."""
        return self.version in {self.wanted, self.wanted + 1}


def survey(transaction: Transaction) -> Survey:
    """Look at a book."""
    connection, now_ms = transaction.connection, transaction.now_ms
    version = schema.version_of(connection)
    found = Survey(now_ms, version, schema.VERSION)
    if not found.is_known:
        return found
    fronts = connection.all(
        "SELECT id, host, version, config_hash FROM fronts WHERE beat_ms >= ? ORDER BY host, id", now_ms - DEAD_MS
    )
    deaths = connection.all(
        "SELECT queue, COALESCE(origin, worker_type), count(*) FROM tasks WHERE state = 'dead' AND ended_ms >= ? "
        "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ?",
        now_ms - _DAY_MS, _DEAD_LIMIT,
    )  # fmt: skip
    return Survey(
        now_ms,
        version,
        schema.VERSION,
        sorted(tokens.load(transaction).values(), key=lambda token: token.name),
        [FrontRow(*row) for row in fronts],
        [origin for origin in origins.load(transaction) if origin.rests_until_ms > now_ms],
        [Deaths(*row) for row in deaths],
    )
