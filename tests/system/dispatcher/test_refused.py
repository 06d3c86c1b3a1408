"""Results that a broker does not take: said, dead letters, and nobody else waits for them."""

from __future__ import annotations

from broker import PrivateBroker
from daemons import Stage

PLUGIN = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            what, _, size = body.partition(" ")
            if what == "raise":
                raise ValueError("x" * int(size))
            return "x" * int(size)
"""


def at_work(stage: Stage) -> str:
    """Start, and have a workitem run; the pool's log so far. RabbitMQ 3.10 may end a connection (541) while its queues
    are new."""
    stage.start("sized")
    stage.amqp.submit("sized return 3", message_id="first")
    stage.amqp.take_for("first")
    return stage.pool.log


def test_a_result_and_a_dead_letter_over_the_brokers_limit(stage: Stage, broker: PrivateBroker) -> None:
    stage.site.install("sized", PLUGIN)
    with broker.max_message_size(20_000):
        before = at_work(stage)
        for number in range(10):
            stage.amqp.submit(f"sized return {30_000 if number == 4 else 3}", message_id=f"id-{number}")
        results = {}
        while len(results) < 10:  # those that had no answer when the channel was closed come twice
            message = stage.amqp.take("results")
            results[message.properties.message_id] = message
        assert {name for name, message in results.items() if message.headers["status"] == "success"} == {
            f"id-{number}" for number in range(10) if number != 4
        }
        assert "message size 30000 is larger" in results["id-4"].json()["error"]
        assert results["id-4"].headers["error_type"] == "ResultRefused"
        letter = stage.amqp.take_for("id-4", "taskqueue_dead")
        assert letter.headers["x-dead-reason"] == "failed" and letter.text == "return 30000"
        assert "message size 30000 is larger" in letter.headers["x-dead-detail"]
    assert stage.pool.running and "broker connect" not in stage.pool.log.removeprefix(before)


def test_an_error_result_over_the_brokers_limit_is_a_shorter_one(stage: Stage, broker: PrivateBroker) -> None:
    stage.site.install("sized", PLUGIN)
    with broker.max_message_size(20_000):
        stage.start("sized")
        stage.amqp.submit("sized raise 3000" + " " * 15_000, message_id="id-1")
        result = stage.amqp.take_for("id-1")
        assert result.headers["status"] == "error" and "error result was refused" in result.json()["error"]
        assert stage.amqp.take_for("id-1", "taskqueue_dead").headers["x-dead-reason"] == "failed"


def test_a_dead_letter_that_is_not_taken_leaves_its_workitem_in_the_queue(stage: Stage, broker: PrivateBroker) -> None:
    """A broker whose limit was lowered. The workitem is settled by nobody, the others are run, the end is in time."""
    stage.site.install("sized", PLUGIN)
    stage.configure("")
    stage.amqp.declare("worker_sized")
    stage.amqp.submit("raise 3" + " " * 30_000, "worker_sized", message_id="large")
    with broker.max_message_size(20_000):
        stage.start("sized")
        stage.pool.logged("dead letter not taken, workitem left in its queue: task=large ")
        stage.amqp.submit("sized return 3", message_id="small")
        while (message := stage.amqp.take("results")).properties.message_id != "small":
            assert message.properties.message_id == "large", "its error result is small enough"
        assert stage.pool.stop() == 0
    assert stage.amqp.take_for("large", "worker_sized").text == "raise 3" + " " * 30_000
    assert stage.amqp.take_now("taskqueue_dead") is None


def test_a_direct_reply_is_not_sent(stage: Stage) -> None:
    """RabbitMQ ends the connection for a publish to a pseudo-queue that it cannot resolve."""
    stage.site.install("sized", PLUGIN)
    before = at_work(stage)
    name = "amq.rabbitmq.reply-to.g1h2AAdyZXBseUAxAAAFAAAAAAAAAAAB.k"
    stage.amqp.submit("sized return 3", message_id="direct", reply_to=name)
    stage.pool.logged(f"result dropped: task=direct reply_to={name} reason=not a queue")
    stage.amqp.submit("sized return 3", message_id="next")
    stage.amqp.take_for("next")
    assert "broker connect" not in stage.pool.log.removeprefix(before)
