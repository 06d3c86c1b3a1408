"""Tasks over HTTP on a host of the package tests: a target of theirs, and what an operator types to use it."""

from __future__ import annotations

import json
import re
from typing import Any

from hosts import Host

PORT = 9099
_SEEN = "/tmp/seen"
_TARGET = f"""
import http.server, json

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("{_SEEN}", "a") as seen:
            print(json.dumps(dict(path=self.path, body=body, headers=dict(self.headers))), file=seen)
        self.send_response(204)
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", {PORT}), Handler).serve_forever()
"""
_ANSWER = re.compile(
    r"HTTP/1\.1 200 OK\r?\n.*\r?\n\r?\n"
    r'\{"status": "scheduled", "id": "([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"\}\n',
    re.DOTALL,
)
LOGS = "journalctl -q -n 60; curl -s http://127.0.0.1:8088/v1/tasks"
"""Shown where a wait was in vain."""


class Target:
    """A web server on the host, which answers each POST with 204."""

    def __init__(self, host: Host) -> None:
        self._host = host
        (host.root / "srv" / "target.py").write_text(_TARGET)
        self._process = host.begin("echo $$ >/srv/target.pid; exec python3 /srv/target.py")
        host.wait_for(f"bash -c ': </dev/tcp/127.0.0.1/{PORT}'")

    def received(self, task_id: str, deadline_s: float = 60) -> dict[str, Any]:
        """The request of a task, once it has come: its `path`, `body` and `headers`, in their own case."""
        line = self._host.wait_for(f'grep \'"X-Task-Id": "{task_id}"\' {_SEEN}', deadline_s, otherwise=LOGS)
        found: dict[str, Any] = json.loads(line.splitlines()[0])
        return found

    def close(self) -> None:
        """End it."""
        self._host.run("kill $(cat /srv/target.pid)")
        self._process.wait(10)
        self._host.run(f"rm -f {_SEEN} /srv/target.py /srv/target.pid")


def enqueue(host: Host, *, more: str = "") -> str:
    """Type the command of the first documentation, and `more` of curl's options; gives the task's id."""
    answer = host.wait_for(
        f"curl -sS -i http://127.0.0.1:8088/queue -d 'task.url=http://localhost:{PORT}/worker' -d 'foo=bar' {more}",
        otherwise=LOGS,
    )
    found = _ANSWER.fullmatch(answer)
    assert found is not None, answer
    return found[1]


def check_delivery(host: Host, target: Target) -> None:
    """The first documentation's example, to its end."""
    task_id = enqueue(host)
    request = target.received(task_id)
    assert (request["path"], request["body"]) == ("/worker", "foo=bar")


def webhook_processes() -> str:
    """A shell command that succeeds while the workerpool has processes of the user taskqueue-webhook."""
    return 'grep -lsP "^Uid:\\t$(id -u taskqueue-webhook)\\t" /proc/[0-9]*/status'
