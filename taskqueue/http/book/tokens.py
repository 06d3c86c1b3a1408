"""The tokens of clients: made once and shown once; the book has their SHA-256. They are random: no salt.

tq_ci_mzxw6ytboi…    NAME is in it, so that a token found in a log can be taken away
scopes               enqueue, enqueue:QUEUE, read, manage (which has all rights)
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass

from taskqueue.http.book.bookkeeper import Transaction
from taskqueue.http.ids import new_task_id

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
SCOPE = re.compile(r"read|manage|enqueue(:[A-Za-z0-9][A-Za-z0-9_.-]{0,99})?")


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret."""

    name: str
    scopes: frozenset[str]
    created_ms: int
    expires_ms: int | None

    def allows(self, scope: str, queue: str | None = None) -> bool:
        """Whether it has the right `scope`; `queue` is the one that a task is for."""
        return not {scope, "manage", f"{scope}:{queue}"}.isdisjoint(self.scopes)


def digest(secret: str) -> str:
    """What the book has of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add(transaction: Transaction, name: str, scopes: frozenset[str], expires_ms: int | None, who: str) -> str | None:
    """Make a token; gives its text, which nobody can see again. None where there is one of that name."""
    secret = f"tq_{name}_{base64.b32encode(os.urandom(32)).decode().rstrip('=').lower()}"
    made = transaction.connection.run(
        "INSERT INTO tokens (name, hash, scopes, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (name) DO NOTHING",
        name, digest(secret), " ".join(sorted(scopes)), transaction.now_ms, expires_ms,
    )  # fmt: skip
    if not made:
        return None
    note(transaction, who, "token-added", f"{name}: {' '.join(sorted(scopes))}")
    return secret


def remove(transaction: Transaction, name: str, who: str) -> bool:
    """Take a token away; False where there is none of that name. Fronts notice within a second or two."""
    gone = bool(transaction.connection.run("DELETE FROM tokens WHERE name = ?", name))
    if gone:
        note(transaction, who, "token-removed", name)
    return gone


def load(transaction: Transaction) -> dict[str, Token]:
    """All tokens, by their digest."""
    rows = transaction.connection.all("SELECT hash, name, scopes, created_ms, expires_ms FROM tokens ORDER BY name")
    return {
        hashed: Token(name, frozenset(scopes.split()), created_ms, expires_ms)
        for hashed, name, scopes, created_ms, expires_ms in rows
    }


def note(transaction: Transaction, who: str, what: str, detail: str) -> None:
    """A line of the audit: who changed what."""
    transaction.connection.run(
        "INSERT INTO audit (id, at_ms, who, what, detail) VALUES (?, ?, ?, ?, ?)",
        new_task_id(transaction.now_ms), transaction.now_ms, who, what, detail,
    )  # fmt: skip
