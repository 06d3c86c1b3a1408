"""What a client may send and what it gets back: section 4 of the design, through both daemons, by plain pika."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from daemons import Stage
from delayed import arrivals, lateness, submit
from waiting import wait_for

ECHO = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            task = self.task
            return {
                "kind": type(body).__name__,
                "body": body.hex() if isinstance(body, bytes) else body,
                "id": task.id,
                "worker_type": task.worker_type,
                "attempt": task.attempt,
                "content_type": task.content_type,
                "headers": dict(task.headers),
            }
"""

GIVE = """
    from taskqueue.worker import BaseWorker

    JSON = {"a": [1, 2.5, None, "ü"]}
    GIVES = {"str": "täxt", "bytes": b"\\x00\\xff", "json": JSON, "list": [], "none": None, "zero": 0}

    class Worker(BaseWorker):
        def handle_task(self, body):
            return object() if body == "object" else float("nan") if body == "nan" else GIVES[body]
"""

FAIL = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            raise ValueError("it cannot be done")
"""

CONFIG = """
[dispatcher]
max_body: 64K

[workerpool]
results_ttl: 1h

[quiet]
report_results: no

[apart]
results_routing_key: apart_results
"""

RUOTE = {"wfid": "2026-1", "fields": {"params": {"worker_type": "echo", "ref": "p"}, "n": 1}}


@pytest.fixture(scope="module")
def stage(shared_stage: Stage) -> Stage:
    """Both daemons with plugins that say what they got, one pair for all tests of this module."""
    site = shared_stage.site
    for worker_type in ("echo", "quiet", "apart"):
        site.install(worker_type, ECHO)
    site.install("give", GIVE)
    site.install("fail", FAIL)
    shared_stage.configure(CONFIG)
    shared_stage.start("echo", "quiet", "apart", "give", "fail")
    shared_stage.amqp.declare("results")
    return shared_stage


@pytest.fixture(autouse=True)
def clean(stage: Stage) -> Iterator[None]:
    """Each test takes all that it has led to: nothing may be left for the next one."""
    yield
    for queue in ("taskqueue", "results", "taskqueue_dead"):
        if left := stage.amqp.take_now(queue):
            pytest.fail(f"left in {queue}: {left}")


def echoed(stage: Stage) -> dict[str, Any]:
    """What the handler got."""
    value = stage.amqp.take("results").json()
    assert isinstance(value, dict)
    return value


# -- formats


@pytest.mark.parametrize("content_type", ["text/plain", None, "text/plain; charset=utf-8", "TEXT/PLAIN"])
def test_text(stage: Stage, content_type: str | None) -> None:
    stage.amqp.submit("echo hällo  world \n", content_type=content_type)
    got = echoed(stage)
    assert (got["kind"], got["body"], got["worker_type"], got["attempt"]) == ("str", "hällo  world \n", "echo", 1)


def test_text_without_a_rest(stage: Stage) -> None:
    stage.amqp.submit("echo", content_type="text/plain")
    assert echoed(stage)["body"] == ""


def test_text_in_another_charset(stage: Stage) -> None:
    stage.amqp.submit("echo grün".encode("latin-1"), content_type="text/plain; charset=iso-8859-1")
    assert echoed(stage)["body"] == "grün"


@pytest.mark.parametrize("workitem", [{"a": {"b": [1, None]}}, [1, "ü"], "text", 7, 1.5, True, None])
def test_json_envelope(stage: Stage, workitem: Any) -> None:
    stage.amqp.submit_json({"worker_type": "echo", "workitem": workitem})
    got = echoed(stage)
    assert (got["kind"], got["body"]) == (type(workitem).__name__, workitem)


@pytest.mark.parametrize(
    "whole",
    [
        {"worker_type": "echo"},
        {"worker_type": "echo", "a": 1},
        {"worker_type": "echo", "workitem": 1, "more": 2},
        RUOTE,
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", None])
def test_json_forwarded_whole(stage: Stage, whole: dict[str, Any], content_type: str | None) -> None:
    stage.amqp.submit("\n " + json.dumps(whole), content_type=content_type)
    got = echoed(stage)
    assert (got["kind"], got["body"]) == ("dict", whole)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png", "application/x-own"])
def test_header_addressed_bytes(stage: Stage, content_type: str) -> None:
    body = b"other not looked at \x00\xff"
    stage.amqp.submit(body, content_type=content_type, headers={"worker_type": "echo", "own": "kept"})
    got = echoed(stage)
    assert (got["kind"], got["body"], got["content_type"]) == ("bytes", body.hex(), content_type)
    assert got["headers"]["own"] == "kept"


def test_header_beats_what_the_body_says(stage: Stage) -> None:
    stage.amqp.submit_json({"worker_type": "nobody", "workitem": 1}, headers={"worker_type": "echo"})
    assert echoed(stage)["body"] == {"worker_type": "nobody", "workitem": 1}


def test_header_addressed_and_encoded_body_reaches_the_worker_as_it_came(stage: Stage) -> None:
    stage.amqp.submit(b"\x1f\x8b", content_type="text/plain", content_encoding="gzip", headers={"worker_type": "echo"})
    assert echoed(stage)["body"] == "1f8b"


# -- properties


def test_properties_survive_dispatch(stage: Stage) -> None:
    sent: dict[str, Any] = {
        "message_id": "id-1",
        "correlation_id": "correlation-1",
        "reply_to": "somewhere",
        "priority": 3,
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "expiration": "600000",
        "timestamp": 1_700_000_000,
        "type": "type-1",
        "app_id": "app-1",
    }
    headers = {"s": "text", "n": 7, "deep": {"list": [1, "a"]}, "bytes": b"\x00", "yes": True}
    stage.amqp.submit("raw rest", headers=headers, **sent)
    message = stage.amqp.take("worker_raw")
    assert {name: getattr(message.properties, name) for name in sent} == sent
    assert message.headers == headers
    assert message.properties.delivery_mode == 2
    assert message.body == b"rest"


def test_broker_headers_are_removed(stage: Stage) -> None:
    death = [{"queue": "worker_raw2", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["worker_raw2"]}]
    stage.amqp.submit("raw2 x", message_id="cycle", headers={"x-death": death, "x-first-death-queue": "q", "own": 1})
    assert stage.amqp.take_for("cycle", "worker_raw2").headers == {"own": 1}


def test_message_id_is_set_where_none_is(stage: Stage) -> None:
    stage.amqp.submit("raw3 x")
    first = stage.amqp.take("worker_raw3").properties.message_id
    stage.amqp.submit("raw3 x")
    second = stage.amqp.take("worker_raw3").properties.message_id
    assert str(uuid.UUID(first)) == first and first != second


def test_handler_sees_the_id_that_the_result_has(stage: Stage) -> None:
    stage.amqp.submit("echo x")
    message = stage.amqp.take()
    assert message.json()["id"] == message.properties.message_id == message.properties.correlation_id


def test_result_of_a_success(stage: Stage) -> None:
    stage.amqp.submit("echo x", message_id="id-2", correlation_id="correlation-2")
    message = stage.amqp.take_for("id-2")
    runtime_ms = message.headers["runtime_ms"]
    assert message.headers == {
        "worker_type": "echo",
        "task_id": "id-2",
        "status": "success",
        "attempt": 1,
        "runtime_ms": runtime_ms,
        "host": socket.gethostname(),
    }
    assert 0 <= runtime_ms < 1000
    assert message.properties.correlation_id == "correlation-2"
    assert message.properties.content_type == "application/json"
    assert message.properties.delivery_mode == 2
    assert message.properties.expiration == "3600000"


@pytest.mark.parametrize(
    ("what", "content_type", "body"),
    [
        ("str", "text/plain", "täxt".encode()),
        ("bytes", "application/octet-stream", b"\x00\xff"),
        ("json", "application/json", {"a": [1, 2.5, None, "ü"]}),
        ("list", "application/json", []),
        ("none", "application/json", None),
        ("zero", "application/json", 0),
    ],
)
def test_bodies_of_results(stage: Stage, what: str, content_type: str, body: Any) -> None:
    stage.amqp.submit(f"give {what}")
    message = stage.amqp.take()
    assert message.properties.content_type == content_type
    assert (message.body if isinstance(body, bytes) else message.json()) == body


@pytest.mark.parametrize("what", ["object", "nan"])
def test_what_json_cannot_hold_is_an_error(stage: Stage, what: str) -> None:
    stage.amqp.submit(f"give {what}")
    message = stage.amqp.take()
    assert message.headers["status"] == "error"
    assert message.headers["error_type"] in {"TypeError", "ValueError"}
    assert stage.amqp.take("taskqueue_dead").headers["x-dead-reason"] == "failed"


def test_error_result_and_dead_letter(stage: Stage) -> None:
    before_ms = time.time() * 1000
    stage.amqp.submit("fail this", message_id="id-3", headers={"own": "kept"}, expiration="600000")
    message = stage.amqp.take_for("id-3")
    assert message.headers["status"] == "error"
    assert message.headers["error_type"] == "ValueError"
    assert message.headers["attempt"] == 1
    body = message.json()
    assert body.keys() == {"error", "trace", "workitem"}
    assert (body["error"], body["workitem"]) == ("it cannot be done", "this")
    assert body["trace"].startswith("Traceback") and "in handle_task" in body["trace"]
    dead = stage.amqp.take_for("id-3", "taskqueue_dead")
    assert dead.body == b"this"
    assert dead.headers["own"] == "kept"
    assert dead.headers["x-dead-reason"] == "failed"
    assert "it cannot be done" in dead.headers["x-dead-detail"]
    assert dead.headers["x-dead-queue"] == "worker_fail"
    assert dead.headers["x-dead-host"] == socket.gethostname()
    assert before_ms - 1000 <= dead.headers["x-dead-at"] <= time.time() * 1000 + 1000
    assert dead.headers["x-attempt"] == 1
    assert dead.properties.expiration is None, "a dead letter waits for a person"


def test_ruote_gets_its_workitem_back(stage: Stage) -> None:
    workitem = {"fields": {"params": {"worker_type": "fail"}, "n": 1}, "wfid": "w"}
    stage.amqp.submit_json(workitem)
    body = stage.amqp.take().json()
    assert body == {**workitem, "error": "it cannot be done", "trace": body["trace"]}
    assert "ValueError: it cannot be done" in body["trace"]
    assert stage.amqp.take("taskqueue_dead").json() == workitem, "a dead letter can be replayed as it is"


def test_envelope_that_fails_gives_the_inner_workitem_back(stage: Stage) -> None:
    stage.amqp.submit_json({"worker_type": "fail", "workitem": {"a": 1}})
    body = stage.amqp.take().json()
    assert body["a"] == 1 and body["error"] == "it cannot be done"
    stage.amqp.take("taskqueue_dead")


# -- where results go


def test_reply_to(stage: Stage) -> None:
    queue = stage.amqp.private()
    stage.amqp.submit("echo x", reply_to=queue, correlation_id="c", message_id="id-4")
    assert stage.amqp.take_for("id-4", queue).properties.correlation_id == "c"
    stage.amqp.submit("fail x", reply_to=queue, message_id="id-5")
    assert stage.amqp.take_for("id-5", queue).headers["status"] == "error"
    stage.amqp.take_for("id-5", "taskqueue_dead")


def test_reply_to_whose_queue_is_gone(stage: Stage) -> None:
    stage.amqp.submit("echo x", reply_to="gone-for-good", message_id="id-6")
    stage.pool.logged(r"result dropped: .*id-6.*gone-for-good")
    stage.amqp.submit("echo x", message_id="id-7")
    stage.amqp.take_for("id-7")
    assert not stage.amqp.exists("gone-for-good")
    assert len(stage.pool.logged("id-6")) == 1, "said once, not run again"


def test_results_routing_key(stage: Stage) -> None:
    stage.amqp.submit("apart x", message_id="id-8")
    stage.amqp.take_for("id-8", "apart_results")


def test_report_results_no(stage: Stage) -> None:
    queue = stage.amqp.private()
    stage.amqp.submit("quiet x", reply_to=queue, message_id="id-9")

    def succeeded() -> int:
        return int(stage.pool.generation("quiet")["counts"]["succeeded"])

    wait_for(lambda: succeeded() == 1, 10, "the quiet one was run")
    stage.amqp.submit("echo x", reply_to=queue, message_id="id-10")
    stage.amqp.take_for("id-10", queue)


# -- what cannot be dispatched


@pytest.mark.parametrize(
    ("body", "properties", "reason", "detail"),
    [
        (b"", {}, "malformed", "not a worker type"),
        (b"../etc x", {}, "malformed", "not a worker type"),
        (b"t" * 202 + b" x", {}, "malformed", "not a worker type"),
        (b"echo \xff", {}, "malformed", "not UTF-8"),
        (b"{", {}, "malformed", "not JSON"),
        (b"[1]", {"content_type": "application/json"}, "malformed", "expected a JSON object"),
        (b'{"a": 1}', {}, "malformed", "worker_type"),
        (b'{"worker_type": 7}', {}, "malformed", "not a worker type: 7"),
        (b'{"worker_type": "echo", "a": NaN}', {}, "malformed", "NaN"),
        (b"x", {"headers": {"worker_type": "no type"}}, "malformed", "not a worker type"),
        (b"echo x", {"headers": {"x-delay": -1}}, "malformed", "x-delay"),
        (b"echo x", {"headers": {"x-delay": "soon"}}, "malformed", "x-delay"),
        (b"<a/>", {"content_type": "application/xml"}, "unknown-format", "application/xml"),
        (b"echo x", {"content_encoding": "gzip"}, "unknown-format", "gzip"),
        (b"echo " + b"x" * 65536, {}, "too-large", "65541 bytes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_dead_letters_of_the_dispatcher(
    stage: Stage, body: bytes, properties: dict[str, Any], reason: str, detail: str
) -> None:
    headers = {"own": "kept", **properties.pop("headers", {})}
    stage.amqp.submit(body, message_id="dead-1", headers=headers, **properties)
    dead = stage.amqp.take_for("dead-1", "taskqueue_dead")
    assert dead.body == body
    assert dead.headers["x-dead-reason"] == reason
    assert detail in dead.headers["x-dead-detail"]
    assert dead.headers["x-dead-queue"] == "taskqueue"
    assert dead.headers["x-dead-host"] == socket.gethostname()
    assert abs(dead.headers["x-dead-at"] / 1000 - time.time()) < 30
    assert dead.headers["own"] == "kept"


def test_a_body_that_is_not_what_it_says_is_malformed_in_the_worker(stage: Stage) -> None:
    stage.amqp.submit("{", content_type="application/json", message_id="dead-2", headers={"worker_type": "echo"})
    assert stage.amqp.take_for("dead-2").headers["status"] == "error"
    dead = stage.amqp.take_for("dead-2", "taskqueue_dead")
    assert (dead.headers["x-dead-reason"], dead.headers["x-dead-queue"]) == ("malformed", "worker_echo")


# -- delays and queues


def test_x_delay(stage: Stage) -> None:
    queue = stage.amqp.private()
    due_s = {
        "late": submit(stage.amqp, "echo late", "late", 1500, {"own": 1}, reply_to=queue),
        "soon": submit(stage.amqp, "echo soon", "soon", 300, reply_to=queue),
        "now": time.time(),
    }
    stage.amqp.submit("echo now", reply_to=queue, message_id="now")
    came = arrivals(stage.amqp, queue, 3, 20)
    assert [each.name for each in came] == ["now", "soon", "late"]
    assert lateness(due_s, came)[0] >= 0
    assert came[-1].message.json()["headers"] == {"own": 1}, "nothing of the ladder reaches a worker"


def test_delay_keeps_the_expiration_for_after_it(stage: Stage) -> None:
    stage.amqp.submit("raw4 x", message_id="both", expiration="200", headers={"x-delay": 400})
    stage.amqp.submit("raw4 x", message_id="long", expiration="60000", headers={"x-delay": 200})
    assert stage.amqp.take_for("long", "worker_raw4").properties.expiration == "60000"
    # the other one expires in worker_raw, after its delay and not during it
    dead = stage.amqp.take_for("both", "taskqueue_dead")
    assert dead.headers["x-death"][0]["queue"] == "worker_raw4"
    assert dead.headers["x-death"][0]["reason"] == "expired"


def test_work_sent_before_its_plugin_waits_in_a_durable_quorum_queue(stage: Stage) -> None:
    stage.amqp.submit("notyet x", message_id="early")
    wait_for(lambda: stage.amqp.depth("worker_notyet") == 1, 10, "worker_notyet holds it")
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "taskqueue_dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    stage.amqp.channel.queue_declare("worker_notyet", durable=True, arguments=arguments)  # 406 where it differs


def test_queue_with_other_arguments_is_used_as_it_is(stage: Stage) -> None:
    stage.amqp.declare("worker_odd")
    stage.amqp.submit("odd x", message_id="odd-1")
    stage.amqp.take_for("odd-1", "worker_odd")
    stage.amqp.submit("odd x", message_id="odd-2")
    stage.amqp.take_for("odd-2", "worker_odd")
    assert len(stage.dispatcher.logged(r"WARNING .*queue used as it is: queue=worker_odd")) == 1


def test_a_worker_queue_that_was_deleted_is_made_again(stage: Stage) -> None:
    stage.amqp.submit("brief x")
    stage.amqp.take("worker_brief")
    stage.amqp.delete("worker_brief")
    stage.amqp.submit("brief y", message_id="again")
    stage.amqp.take_for("again", "worker_brief")


def test_results_queue_that_was_deleted_is_made_again(stage: Stage) -> None:
    stage.amqp.submit("apart x", message_id="apart-1")
    stage.amqp.take_for("apart-1", "apart_results")
    stage.amqp.delete("apart_results")
    stage.amqp.submit("apart x", message_id="apart-2")
    stage.amqp.take_for("apart-2", "apart_results")
