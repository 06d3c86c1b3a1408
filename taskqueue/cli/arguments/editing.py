"""A dead letter as a text to be edited, and the editor that is run for it while the connection is kept alive.

The text is a JSON object (where it goes, content type, headers), an empty line, and the body as it is.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from taskqueue.amqp.session import Session
from taskqueue.errors import TaskqueueError
from taskqueue.protocol.properties import Properties

_SHOWN = ("content_type", "content_encoding", "priority", "correlation_id", "reply_to", "expiration")
_KINDS: dict[str, type] = {**dict.fromkeys(_SHOWN, str), "priority": int, "queue": str, "headers": dict}


class Workitem(NamedTuple):
    """What of a letter can be changed before it is replayed. Its `message_id` cannot: it is the same workitem."""

    queue: str
    properties: Properties
    body: bytes


class NotALetter(TaskqueueError):
    """What came out of the editor cannot be replayed: have it edited again."""


def written(workitem: Workitem) -> bytes:
    """The text for the editor. Headers that JSON cannot carry are not in it; they stay as they are."""
    properties = workitem.properties
    head: dict[str, Any] = {"queue": workitem.queue}
    head |= {name: value for name in _SHOWN if (value := getattr(properties, name)) is not None}
    head["headers"] = _carried(properties)
    return json.dumps(head, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n" + workitem.body


def parsed(text: bytes, before: Workitem) -> Workitem:
    """What the text says, with all that it cannot say as `before`; raises `NotALetter`."""
    decoded = text.decode("utf-8", "surrogateescape")
    try:
        head, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError) as error:
        raise NotALetter(f"the part above the body is not JSON: {error}"[:200]) from None
    gap, body = decoded[end : end + 2], decoded[end + 2 :]
    if gap != "\n\n" and (gap or before.body):
        raise NotALetter("no empty line between the JSON object and the body")
    if not isinstance(head, dict) or "queue" not in head:
        raise NotALetter('the part above the body is not an object with a "queue"')
    for name, value in head.items():
        if name not in _KINDS:
            raise NotALetter(f"{name!r:.80} is unknown; expected {', '.join(_KINDS)}")
        if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            raise NotALetter(f"{name} is {value!r:.80}; expected {_KINDS[name].__name__}")
    hidden = dict(before.properties.headers or {})
    for name in _carried(before.properties):
        del hidden[name]
    content = body.encode("utf-8", "surrogateescape")
    if content.endswith(b"\n") and not before.body.endswith(b"\n"):
        content = content[:-1]  # editors end the last line
    return Workitem(
        head["queue"],
        before.properties._replace(
            **{name: head.get(name) for name in _SHOWN}, headers={**hidden, **head.get("headers", {})} or None
        ),
        content,
    )


def _carried(properties: Properties) -> dict[str, Any]:
    carried = {}
    for name, value in (properties.headers or {}).items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            continue
        carried[name] = value
    return carried


class Editor:
    """`$VISUAL`, `$EDITOR` or `editor`, on a private file."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "editor")

    def edit(self, text: bytes) -> tuple[bytes, Path]:
        """(what came of `text`, the file that it is in, to be removed). Raises `TaskqueueError` where it fails."""
        fd, name = tempfile.mkstemp(prefix="taskqueue-", suffix=".txt")
        path = Path(name)
        with open(fd, "wb") as file:  # noqa: PTH123 - of the descriptor
            file.write(text)
        try:
            status = self._run(path)
        except OSError as error:
            path.unlink()
            raise TaskqueueError(f"$EDITOR: {self._command[0]}: {error.strerror}") from None
        if status != 0:
            path.unlink()
            raise TaskqueueError(f"$EDITOR: {self._command[0]}: ended with status {status}")
        return path.read_bytes(), path

    def _run(self, path: Path) -> int:
        """Heartbeats are sent while it runs: a person may think for long."""
        loop = self._session.loop
        with subprocess.Popen([*self._command, path]) as process:
            ended = os.pidfd_open(process.pid)
            try:
                loop.add_handler(ended, lambda fd, events: loop.remove_handler(fd), select.EPOLLIN)
                self._session.wait(lambda: process.poll() is not None, None)
            finally:
                loop.remove_handler(ended)
                os.close(ended)
            return process.returncode
