"""Tasks from end to end: a front, a real broker, a real workerpool with webhook workers, a web daemon as target."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from daemons import Stage
from fronts import Client, front
from targets import Arrived, Target
from taskqueue.config.http_settings import QueueSettings, RetrySettings

CONFIG = """
[webhook]
targets: private
concurrency: 200
"""
PRIMES = """
    from taskqueue.worker import BaseWorker, Reject

    class Worker(BaseWorker):
        def handle_task(self, body):
            number, found, factor = int(body), [], 2
            if number < 1:
                raise Reject("not a natural number")
            while number > 1:
                while number % factor == 0:
                    found.append(factor)
                    number //= factor
                factor += 1
            return found
"""


@pytest.fixture
def target() -> Iterator[Target]:
    """A web daemon."""
    with Target() as made:
        yield made


@pytest.fixture
def pool(stage: Stage) -> Stage:
    """A workerpool with webhook workers and the plugin `primes`."""
    stage.site.install_webhook()
    stage.site.install("primes", PRIMES)
    stage.configure(CONFIG)
    stage.start("webhook", "primes")
    return stage


def with_front(book: str, stage: Stage, body: Callable[[Client], Awaitable[None]], **settings: Any) -> None:
    """Run `body(client)` with a front beside the pool."""

    async def main() -> None:
        async with asyncio.timeout(60), front(book, stage.amqp_url, **settings) as client:
            await body(client)

    asyncio.run(main())


def test_a_task_arrives_as_the_seed_says(book_url: str, pool: Stage, target: Target) -> None:
    async def body(client: Client) -> None:
        reply = await client.post(
            "/queue", data=f"task.url={target.url}/worker&foo=bar".encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        task = await client.ended(reply.json["id"])
        assert task["state"] == "succeeded" and task["result"]["status"] == 200, task
        assert task["result"]["body"] == "ok" and task["attempts"] == 1
        [request] = target.arrived
        assert (request.method, request.path, request.body) == ("POST", "/worker", b"foo=bar")
        assert request.headers["X-Task-Id"] == request.headers["webhook-id"] == task["id"]
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert request.headers["X-Queue"] == "queue" and request.headers["X-Task-Attempt"] == "1"
        [attempt] = (await client.get(f"/v1/tasks/{task['id']}/attempts")).json["attempts"]
        assert attempt["outcome"] == "answered" and attempt["address"] == "127.0.0.1"

    with_front(book_url, pool, body)


def test_hundreds_at_once_arrive_once_each(book_url: str, pool: Stage, target: Target) -> None:
    async def body(client: Client) -> None:
        tasks = await asyncio.gather(*(client.add(url=f"{target.url}/{number}") for number in range(400)))
        await asyncio.gather(*(client.ended(task["id"]) for task in tasks))
        assert sorted(target.ids()) == sorted(task["id"] for task in tasks)

    with_front(book_url, pool, body)


def test_a_failure_is_retried_by_the_rules_and_counted(book_url: str, pool: Stage, target: Target) -> None:
    def answer(request: Arrived) -> tuple[int, dict[str, str], bytes]:
        return (503 if len(target.arrived) < 3 else 200), {}, b""

    async def body(client: Client) -> None:
        target.answer = answer
        task = await client.ended((await client.add("r", url=f"{target.url}/"))["id"])
        assert (task["state"], task["attempts"], task["responses"]) == ("succeeded", 3, 3)
        assert [request.headers["X-Task-Attempt"] for request in target.arrived] == ["1", "2", "3"]
        target.answer = lambda request: (500, {}, b"no")
        dead = await client.ended((await client.add("r", url=f"{target.url}/", retry={"max_attempts": 2}))["id"])
        assert (dead["state"], dead["reason"], dead["attempts"]) == ("dead", "failed", 2)
        assert dead["last"]["status"] == 500
        target.answer = lambda request: (410, {}, b"")
        gone = await client.ended((await client.add("r", url=f"{target.url}/"))["id"])
        assert (gone["state"], gone["reason"], gone["attempts"]) == ("dead", "gone", 1)

    with_front(book_url, pool, body, queues=(QueueSettings("r", retry=RetrySettings(min_backoff_s=0.05)),))


def test_a_delay_is_kept_to_100_ms(book_url: str, pool: Stage, target: Target) -> None:
    async def body(client: Client) -> None:
        await client.ended((await client.add(url=f"{target.url}/"))["id"])
        task = await client.add(url=f"{target.url}/later", delay=1.5)
        await client.ended(task["id"])
        late = target.arrived[-1].at - await _due_s(client, task["id"])
        assert -0.001 <= late < 0.1, late

    with_front(book_url, pool, body)


async def _due_s(client: Client, task_id: str) -> float:
    from taskqueue.http.api.times import read_time

    return float(read_time((await client.get(f"/v1/tasks/{task_id}")).json["scheduled_at"])) / 1000


def test_a_worker_type_runs_its_plugin_and_keeps_the_value(book_url: str, pool: Stage) -> None:
    async def body(client: Client) -> None:
        sent = {"worker_type": "primes", "body": "360"}
        reply = await client.post("/v1/queues/default/tasks", sent, headers={"Prefer": "wait=20"})
        assert reply.status == 200, reply.body
        assert reply.json["state"] == "succeeded" and reply.json["result"] == {"value": [2, 2, 2, 3, 3, 5]}
        for wrong, reason in (("0", "rejected"), ("x", "failed")):
            reply = await client.post(
                "/v1/queues/default/tasks", {"worker_type": "primes", "body": wrong}, headers={"Prefer": "wait=20"}
            )
            assert (reply.json["state"], reply.json["reason"]) == ("dead", reason), reply.json
        assert "ValueError" in reply.json["last"]["error"]
        assert pool.amqp.depth("taskqueue_dead") == 0, "the task is dead in the book, and nowhere else"

    with_front(book_url, pool, body)


def test_a_target_that_is_denied_names_the_rule_and_the_key(book_url: str, pool: Stage) -> None:
    async def body(client: Client) -> None:
        task = await client.ended((await client.add(url="http://localhost:25/"))["id"])
        assert (task["state"], task["reason"], task["last"]["outcome"]) == ("dead", "target-denied", "denied")
        assert "targets_allow" in task["last"]["error"], task["last"]

    with_front(book_url, pool, body)


def test_a_rate_is_kept_at_the_target(book_url: str, pool: Stage, target: Target) -> None:
    rate, burst = 40.0, 10

    async def body(client: Client) -> None:
        tasks = await asyncio.gather(*(client.add("slow", url=f"{target.url}/") for _ in range(120)))
        await asyncio.gather(*(client.ended(task["id"]) for task in tasks))
        at = sorted(request.at for request in target.arrived)
        assert len(at) == 120
        for first in range(len(at)):
            for last in range(first, len(at)):
                started = last - first + 1
                assert started <= burst + rate * (at[last] - at[first]) + 1, (first, last, at[last] - at[first])
        assert at[-1] - at[0] < 1.5 * 120 / rate, "and it is used"

    with_front(book_url, pool, body, queues=(QueueSettings("slow", rate_limit=rate, burst=burst),))


def test_a_webhook_worker_that_is_killed_costs_nobody_a_task(book_url: str, pool: Stage, target: Target) -> None:
    def slow(request: Arrived) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.3)
        return 200, {}, b""

    async def body(client: Client) -> None:
        target.answer = slow
        tasks = await asyncio.gather(*(client.add(url=f"{target.url}/") for _ in range(60)))
        while len(target.arrived) < 20:
            await asyncio.sleep(0.01)
        os.kill(pool.pool.only_worker("webhook"), signal.SIGKILL)
        ended = await asyncio.gather(*(client.ended(task["id"]) for task in tasks))
        assert {task["state"] for task in ended} == {"succeeded"} and {task["attempts"] for task in ended} == {1}
        assert set(target.ids()) == {task["id"] for task in tasks}
        assert pool.amqp.depth("taskqueue_dead") == 0

    with_front(book_url, pool, body)


def test_pause_and_cancel(book_url: str, pool: Stage, target: Target) -> None:
    async def body(client: Client) -> None:
        await client.post("/v1/queues/default:pause")
        kept, gone = await client.add(url=f"{target.url}/kept"), await client.add(url=f"{target.url}/gone")
        assert (await client.ask("DELETE", f"/v1/tasks/{gone['id']}")).json["state"] == "cancelled"
        waited = await client.get(f"/v1/tasks/{kept['id']}", headers={"Prefer": "wait=1"})
        assert waited.status == 202 and waited.json["state"] == "ready" and not target.arrived
        await client.post("/v1/queues/default:resume")
        assert (await client.ended(kept["id"]))["state"] == "succeeded"
        assert [request.path for request in target.arrived] == ["/kept"]

    with_front(book_url, pool, body)
