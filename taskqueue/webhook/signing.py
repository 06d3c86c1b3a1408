"""Signatures by Standard Webhooks 1.0.0, and the file that has the secrets. No secret is ever logged or shown.

    # /etc/taskqueue/webhook.secrets, readable by the webhook worker's user alone
    emails = whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD
    reports = whsec_new… whsec_old…                      ; two while receivers change over: each request has both

`Secrets("…").signature("emails", "0190…", 1700000000, b"{}")` gives `v1,<base64>`, one for each secret. The file is
read again when it has changed.
"""

from __future__ import annotations

import base64
import hmac
import os
from pathlib import Path

_PREFIX = "whsec_"


class Unsigned(Exception):
    """A request cannot be signed. The message is one line for an operator, without any secret."""


class Secrets:
    """The secrets of all queues."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._of_queue: dict[str, list[bytes]] = {}

    def signature(self, queue: str | None, message_id: str, timestamp: int, body: bytes) -> str:
        """The value of `webhook-signature`. `timestamp`: Unix seconds of the attempt. Raises `Unsigned`."""
        if "." in message_id:
            raise Unsigned("not signed: the task's id has a dot, which Standard Webhooks forbids")
        signed = f"{message_id}.{timestamp}.".encode() + body
        return " ".join(
            "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in self._secrets(queue)
        )

    def _secrets(self, queue: str | None) -> list[bytes]:
        if self._path is None:
            raise Unsigned("not signed: the key `secrets` in [webhook] names no file")
        try:
            found = os.stat(self._path)  # noqa: PTH116 - once for each signed request
            seen = (found.st_ino, found.st_dev, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._of_queue = read_secrets(self._path)
                self._seen = seen
        except OSError as error:
            raise Unsigned(f"not signed: {self._path} cannot be read: {error.strerror}") from error
        if queue not in self._of_queue:
            raise Unsigned(f"not signed: {self._path} has no line for the queue {queue}; expected: {queue} = whsec_…")
        return self._of_queue[queue]


def read_secrets(path: str) -> dict[str, list[bytes]]:
    """The secrets in a file, by queue. Raises `OSError`, and `Unsigned` for a line that is wrong."""
    secrets: dict[str, list[bytes]] = {}
    for number, line in enumerate(Path(path).read_bytes().decode(errors="replace").splitlines(), 1):
        text = line.partition(";")[0].strip()
        if not text or text.startswith("#"):
            continue
        queue, equals, values = text.partition("=")
        try:
            decoded = [_decoded(value) for value in values.split()]
        except ValueError:
            decoded = []
        if not queue.strip() or not equals or not decoded or not all(decoded):
            raise Unsigned(f"not signed: {path}, line {number}: expected QUEUE = whsec_BASE64 [whsec_BASE64 …]")
        secrets[queue.strip()] = decoded
    return secrets


def _decoded(secret: str) -> bytes:
    text = secret.removeprefix(_PREFIX)
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
