"""A client that is not ours and not pika: the commands of Debian's amqp-tools (librabbitmq, C)."""

from __future__ import annotations

import subprocess

from daemons import Stage
from waiting import wait_for

SHOUT = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return body.upper() + "!"
"""


def tool(stage: Stage, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the commands against the test's vhost."""
    return subprocess.run(
        [name, "--url", stage.amqp_url, *arguments], capture_output=True, text=True, timeout=20, check=False
    )


def test_text_in_result_out(stage: Stage) -> None:
    stage.site.install("worker1", SHOUT)
    stage.start("worker1")

    sent = tool(stage, "amqp-publish", "--routing-key", "taskqueue", "--body", "worker1 hello")
    assert sent.returncode == 0, sent.stderr

    def got() -> str:
        ran = tool(stage, "amqp-get", "--queue", "results")
        return ran.stdout if ran.returncode == 0 else ""

    assert wait_for(got, 10, "amqp-get finds a result") == "HELLO!"
    assert tool(stage, "amqp-get", "--queue", "results").returncode != 0, "one workitem, one result"

    arguments = ("--persistent", "--content-type", "text/plain", "--body", "worker1 again")
    assert tool(stage, "amqp-publish", "--routing-key", "taskqueue", *arguments).returncode == 0
    consumed = tool(stage, "amqp-consume", "--queue", "results", "--count", "1", "cat")
    assert (consumed.returncode, consumed.stdout) == (0, "AGAIN!")


def test_json_and_reply_to(stage: Stage) -> None:
    stage.site.install("worker1", SHOUT)
    stage.start("worker1")
    stage.amqp.declare("mine")
    body = '{"worker_type": "worker1", "workitem": "hello"}'
    sent = tool(
        stage, "amqp-publish", "--routing-key", "taskqueue", "--content-type", "application/json", "--reply-to", "mine",
        "--body", body,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    consumed = tool(stage, "amqp-consume", "--queue", "mine", "--count", "1", "cat")
    assert (consumed.returncode, consumed.stdout) == (0, "HELLO!")
