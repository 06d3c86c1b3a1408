"""The health of origins: rests and breakers, in the book, so that all fronts know them (design-http, section 4).

1. Origin `https://slow.example:443` fails ten times in a row, or 70 % of ten and more requests within 30 s: its breaker
   opens for 30 s. What is due for it gets a later due time when it is claimed, uncounted.
2. The 30 s are over: one hand-out goes through (`claiming` puts the others off), and its outcome decides: closed, or
   open for twice as long, up to 10 minutes.
3. An answer 429 or 503 with `Retry-After: 60`: the origin rests for 60 s.

Most origins are well, and have no row. `opened` counts how often the breaker opened without a success in between; it
is negative while one hand-out has gone through, so that what was under way before says nothing more.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.book.connection import Connection
from taskqueue.http.book.events import Outcome

_IN_A_ROW = 10
_WINDOW_MS = 30_000
_WINDOW_LEAST, _WINDOW_SHARE = 10, 0.7
_OPEN_MS, _OPEN_LONGEST_MS = 30_000, 600_000
_JITTER = 0.2
_REST_LONGEST_S = 3600.0
_TRIAL_MS = 5_000
"""Milliseconds that the one hand-out which goes through has; then another one does."""


class _State:
    __slots__ = ("all", "changed", "failed", "failures", "known", "opened", "rest_until_ms", "window_ms")

    def __init__(self, row: tuple[int, int, int, int, int, int] | None, now_ms: int) -> None:
        self.known = row is not None
        self.changed = False
        (self.rest_until_ms, self.failures, self.opened, self.window_ms, self.failed, self.all) = row or (
            0, 0, 0, now_ms, 0, 0,
        )  # fmt: skip


class Health:
    """The origins that one batch of outcomes speaks of; `write` keeps what has changed."""

    def __init__(self, connection: Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._states: dict[str, _State] = {}

    def well(self, origins: Iterable[str | None]) -> None:
        """Requests to these succeeded."""
        for origin in origins:
            if origin is not None:
                self._count(self._state(origin), failing=False)

    def note(self, origin: str | None, outcome: Outcome) -> int | None:
        """An attempt for `origin` has ended; gives until when the origin rests, or None."""
        if origin is None or (outcome.record.get("outcome") in {"denied", "error", "crashed"}):
            return None
        state = self._state(origin)
        self._count(state, failing=outcome.failing)
        if outcome.rests and outcome.retry_after_s:
            rest_ms = int(min(outcome.retry_after_s, _REST_LONGEST_S) * 1000)
            state.rest_until_ms = max(state.rest_until_ms, self._now_ms + rest_ms)
            state.changed = True
        return state.rest_until_ms if state.rest_until_ms > self._now_ms else None

    def write(self) -> None:
        """Write the rows that have changed; an origin that is well has none."""
        for origin, state in sorted(self._states.items()):
            if not state.changed:
                continue
            if not state.failures and not state.failed and state.rest_until_ms <= self._now_ms:
                self._connection.run("DELETE FROM origins WHERE origin = ?", origin)
                continue
            self._connection.run(
                "INSERT INTO origins (origin, rest_until_ms, failures, opened, window_ms, window_failed, window_all,"
                " changed_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE SET "
                "rest_until_ms = excluded.rest_until_ms, failures = excluded.failures, opened = excluded.opened, "
                "window_ms = excluded.window_ms, window_failed = excluded.window_failed, "
                "window_all = excluded.window_all, changed_ms = excluded.changed_ms",
                origin, state.rest_until_ms, state.failures, state.opened, state.window_ms, state.failed, state.all,
                self._now_ms,
            )  # fmt: skip

    def _state(self, origin: str) -> _State:
        state = self._states.get(origin)
        if state is None:
            row = self._connection.one(
                "SELECT rest_until_ms, failures, opened, window_ms, window_failed, window_all FROM origins "
                f"WHERE origin = ?{self._connection.for_update}",
                origin,
            )
            state = self._states[origin] = _State(row, self._now_ms)
        return state

    def _count(self, state: _State, *, failing: bool) -> None:
        if not failing and not state.known and not state.changed:
            return
        if self._now_ms - state.window_ms > _WINDOW_MS:
            state.window_ms, state.failed, state.all = self._now_ms, 0, 0
        state.changed = True
        state.all += 1
        if not failing:
            state.failures = 0
            if state.opened:  # the one that went through came back well
                state.opened, state.rest_until_ms, state.failed, state.all = 0, 0, 0, 0
            return
        state.failures += 1
        state.failed += 1
        often = state.all >= _WINDOW_LEAST and state.failed >= _WINDOW_SHARE * state.all
        if state.opened < 0 or (state.opened == 0 and (state.failures >= _IN_A_ROW or often)):
            times = abs(state.opened)
            open_ms = min(_OPEN_MS * 2**times, _OPEN_LONGEST_MS)
            state.rest_until_ms = self._now_ms + int(open_ms * random.uniform(1 - _JITTER, 1 + _JITTER))
            state.opened = min(times + 1, 10)


def let_one_through(connection: Connection, now_ms: int, origin: str) -> int:
    """The breaker of `origin` was open long enough, and one hand-out to it is claimed; gives how many milliseconds the
    others wait for its outcome."""
    connection.run(
        "UPDATE origins SET opened = -abs(opened), rest_until_ms = ? WHERE origin = ?", now_ms + _TRIAL_MS, origin
    )
    return _TRIAL_MS


@dataclass(frozen=True, slots=True)
class Origin:
    """An origin that is not well."""

    origin: str
    rests_until_ms: int
    """Until then nothing is sent to it; in the past where it only has failed of late."""
    failures: int
    """In a row."""
    opened: int
    """How often its breaker has opened since the last success."""


def load(transaction: Transaction) -> list[Origin]:
    """Every origin that is not well, by name."""
    rows = transaction.connection.all("SELECT origin, rest_until_ms, failures, opened FROM origins ORDER BY origin")
    return [Origin(origin, until_ms, failures, abs(opened)) for origin, until_ms, failures, opened in rows]


def close(transaction: Transaction, origin: str) -> bool:
    """Forget what is known of an origin, and let what waits for it be due now; False where nothing is known."""
    connection, now_ms = transaction.connection, transaction.now_ms
    if not connection.run("DELETE FROM origins WHERE origin = ?", origin):
        return False
    waiting = "UPDATE tasks SET due_ms = ? WHERE due_ms > ? AND origin = ? AND reason = 'origin-rests'"
    connection.run(waiting, now_ms, now_ms, origin)
    return True
