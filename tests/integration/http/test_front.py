"""A front by HTTP, on both books and without a broker: what is taken, shown, changed and refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fronts import Client, front
from taskqueue.config.http_settings import QueueSettings

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def with_front(book: str, body: Callable[[Client], Awaitable[None]], **settings: Any) -> None:
    """Run `body(client)` with a front."""

    async def main() -> None:
        async with asyncio.timeout(60), front(book, **settings) as client:
            await body(client)

    asyncio.run(main())


@pytest.fixture
def sqlite_book(tmp_path: Any) -> str:
    """For what does not depend on the book."""
    return f"sqlite:{tmp_path}/http.db"


def test_the_two_commands_of_the_seed_byte_for_byte(book_url: str) -> None:
    async def body(client: Client) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = await client.post(
            "/queue", data=b"task.url=http://localhost:9099/worker&task.countdown=5&foo=bar", headers=form
        )
        assert reply.status == 200 and reply.headers["Content-Type"].startswith("application/json")
        assert re.fullmatch(rb'\{"status": "scheduled", "id": "%b"\}\n' % UUID.encode(), reply.body), reply.body
        task = (await client.get(f"/v1/tasks/{reply.json['id']}")).json
        assert (task["queue"], task["state"], task["url"]) == ("queue", "scheduled", "http://localhost:9099/worker")
        misspelt = {"Content-Type": "applicatoin/json"}
        sent = b'{"url": "http://localhost:9099/worker", "countdown": 5, "params": {"foo": "bar"}}'
        reply = await client.post("/queue", data=sent, headers=misspelt)
        assert re.fullmatch(rb'\{"status": "scheduled", "id": "%b"\}\n' % UUID.encode(), reply.body), reply.body
        first = await client.post("/queue", data=b"task.url=http://localhost:9099/&task.last_id=7", headers=form)
        again = await client.post("/queue", data=b"task.url=http://localhost:9099/&task.last_id=7", headers=form)
        assert again.body == b'{"status": "duplicate", "id": "%b"}\n' % first.json["id"].encode()

    with_front(book_url, body)


def test_a_task_in_its_three_shapes(book_url: str) -> None:
    async def body(client: Client) -> None:
        reply = await client.post(
            "/v1/queues/default/tasks",
            {"url": "https://example.com/x", "json": {"a": 1}, "delay": "1h", "headers": {"X-A": "1"}, "tags": ["t"]},
        )
        assert reply.status == 201, reply.body
        task = reply.json
        assert reply.headers["Location"] == f"/v1/tasks/{task['id']}" and re.fullmatch(UUID, task["id"])
        seen = (await client.get(reply.headers["Location"])).json
        assert seen.pop("waits_for").startswith("not due until") and task == seen
        raw = await client.post(
            "/v1/queues/default/tasks?url=https%3A%2F%2Fexample.com%2Fy", data=b"\0\xff",
            headers={"Content-Type": "image/png", "Task-Delay": "1h", "Task-Forward-X-B": "2"},
        )  # fmt: skip
        assert raw.status == 201 and raw.json["headers"] == {"X-B": "2", "Content-Type": "image/png"}, raw.body
        items = [{"url": "https://example.com/1", "delay": 60}, {"url": "nonsense"}, {"worker_type": "primes"}]
        batch = await client.post("/v1/queues/default/tasks:batch", items)
        assert batch.status == 200
        assert [each["status"] for each in batch.json["results"]] == [201, 422, 201]
        listed = (await client.get("/v1/tasks?limit=2")).json
        assert len(listed["tasks"]) == 2 and listed["next"]
        rest = (await client.get(f"/v1/tasks?limit=10&cursor={listed['next']}")).json
        assert len(rest["tasks"]) == 2 and rest["next"] is None
        found = (await client.get("/v1/tasks?tag=t&state=scheduled")).json["tasks"]
        assert [each["id"] for each in found] == [task["id"]]

    with_front(book_url, body)


def test_what_can_be_done_to_a_task(book_url: str) -> None:
    async def body(client: Client) -> None:
        task = await client.add(delay="1h", body="hello")
        path = f"/v1/tasks/{task['id']}"
        assert (await client.post(f"{path}:retry")).status == 409
        ran = await client.post(f"{path}:run")
        assert ran.status == 200 and ran.json["state"] == "ready"
        gone = await client.ask("DELETE", path)
        assert gone.status == 200 and gone.json["state"] == "cancelled"
        assert (await client.ask("DELETE", path)).status == 409
        again = await client.post(f"{path}:retry")
        assert again.status == 200 and again.json["state"] == "ready"
        copy = await client.post(f"{path}:duplicate")
        assert copy.status == 201 and copy.json["id"] != task["id"] and copy.json["url"] == task["url"]
        assert (await client.get(f"{path}/attempts")).json == {"attempts": [], "left_off": 0}
        assert (await client.get("/v1/tasks/nobody")).status == 404
        waited = await client.get(path, headers={"Prefer": "wait=1"})
        assert waited.status == 202 and waited.headers["Preference-Applied"] == "wait=1"

    with_front(book_url, body)


def test_an_idempotency_key(book_url: str) -> None:
    async def body(client: Client) -> None:
        key = {"Idempotency-Key": '"k-1"'}
        sent = {"url": "https://example.com/x", "delay": "1h"}
        replies = await asyncio.gather(*(client.post("/v1/queues/default/tasks", sent, headers=key) for _ in range(20)))
        assert {reply.status for reply in replies} == {201} and len({reply.json["id"] for reply in replies}) == 1
        assert sum("Idempotent-Replayed" in reply.headers for reply in replies) == 19
        raw = await client.post("/v1/queues/default/tasks", sent, headers={"Idempotency-Key": "k-1"})
        assert raw.headers["Idempotent-Replayed"] == "true"
        other = await client.post("/v1/queues/default/tasks", {**sent, "delay": "2h"}, headers=key)
        assert other.status == 422 and other.json["type"] == "/problems/idempotency-key-reused"
        named = {**sent, "name": "n"}
        assert (await client.post("/v1/queues/default/tasks", named)).status == 201
        taken = await client.post("/v1/queues/default/tasks", named)
        assert taken.status == 409 and taken.headers["Location"].startswith("/v1/tasks/")

    with_front(book_url, body)


def test_queues(book_url: str) -> None:
    async def body(client: Client) -> None:
        names = [each["name"] for each in (await client.get("/v1/queues")).json["queues"]]
        assert names == ["default", "emails"]
        made = await client.post("/v1/queues", {"name": "q", "rate_limit": "10/s", "retry": {"max_attempts": 3}})
        assert made.status == 201 and made.json["retry"]["max_attempts"] == 3, made.body
        assert (await client.post("/v1/queues", {"name": "q"})).status == 409
        changed = await client.ask("PATCH", "/v1/queues/q", json_body={"concurrency": 5})
        assert changed.status == 200 and changed.json["concurrency"] == 5 and changed.json["retry"]["max_attempts"] == 3
        put = await client.ask("PUT", "/v1/queues/q", json_body={})
        assert put.status == 200 and put.json["concurrency"] == 1000 and put.json["rate_limit"] is None
        assert (await client.ask("PATCH", "/v1/queues/emails", json_body={"burst": 1})).status == 409
        assert (await client.post("/v1/queues/emails:pause")).json["paused"] is True
        await client.add("q", delay="1h")
        assert (await client.get("/v1/queues/q")).json["tasks"]["scheduled"] == 1
        assert (await client.post("/v1/queues/q:purge")).json == {"purged": 1}
        await client.add("q")
        assert (await client.ask("DELETE", "/v1/queues/q")).status == 204
        assert (await client.get("/v1/queues/q")).status == 404
        assert (await client.post("/v1/queues/q/tasks", {"url": "https://example.com"})).status == 404
        assert (await client.get("/v1/tasks?queue=q")).json["tasks"] == []

    with_front(book_url, body, queues=(QueueSettings("emails"),))


@pytest.mark.parametrize(
    ("sent", "status", "places"),
    [
        (b"{", 400, []),
        (b'{"url": "https://a.example", "url": "https://b.example"}', 400, ["#/url"]),
        (b'{"url": "https://a.example", "delay": NaN}', 400, []),
        (b'{"url": "ftp://a.example", "delay": "soon", "metod": 1}', 422, ["#/metod", "#/url", "#/delay"]),
        (b'{"url": "http://169.254.169.254/"}', 422, ["#/url"]),
        (b'{"url": "https://a.example", "headers": {"X-A": "1\\r\\nX-B: 2"}}', 422, ["#/headers/X-A"]),
        (b'{"url": "https://a.example", "at": "2026-02-30T00:00:00Z"}', 422, ["#/at"]),
        (b'{"worker_type": "webhook"}', 422, ["#/worker_type"]),
        (b"[" * 100, 400, []),
    ],
)
def test_bad_input_is_one_problem_with_every_fault_and_nothing_is_stored(
    sqlite_book: str, sent: bytes, status: int, places: list[str]
) -> None:
    async def body(client: Client) -> None:
        reply = await client.post("/v1/queues/default/tasks", data=sent, headers={"Content-Type": "application/json"})
        assert reply.status == status, reply.body
        assert reply.headers["Content-Type"] == "application/problem+json"
        problem = reply.json
        assert problem["error"]["code"] == status and problem["detail"]
        assert sorted(each["pointer"] for each in problem.get("errors", [])) == sorted(places), problem
        assert (await client.get("/v1/tasks")).json["tasks"] == []

    with_front(sqlite_book, body)


def test_what_is_too_large_or_unknown(sqlite_book: str) -> None:
    async def body(client: Client) -> None:
        large = await client.post("/v1/queues/default/tasks", {"url": "https://a.example", "body": "x" * 3000})
        assert large.status == 413
        assert (await client.post("/v1/queues/nobody/tasks", {"url": "https://a.example"})).status == 404
        wrong = await client.ask("PUT", "/v1/tasks")
        assert wrong.status == 405 and "GET" in wrong.headers["Allow"]
        assert (await client.get("/v2/nothing")).status == 404
        page = await client.get("/problems/unknown-queue")
        assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
        assert (await client.get("/openapi.json")).json["openapi"].startswith("3.1")

    with_front(sqlite_book, body, max_body_bytes=2000)


def test_a_web_page_a_proxy_and_another_host_are_refused(sqlite_book: str) -> None:
    async def body(client: Client) -> None:
        for headers in (
            {"X-Forwarded-For": "192.0.2.1"}, {"Via": "1.1 x"}, {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"},
        ):  # fmt: skip
            reply = await client.post("/v1/queues/default/tasks", {"url": "https://a.example"}, headers=headers)
            assert reply.status == 403, (headers, reply.body)
        assert (await client.get("/health/live", headers={"Host": "localhost:8088"})).status == 200
        assert (await client.get("/v1/tasks")).json["tasks"] == []

    with_front(sqlite_book, body)


def test_without_a_broker_tasks_are_taken(book_url: str) -> None:
    async def body(client: Client) -> None:
        task = await client.add()
        ready = await client.get("/health/ready")
        assert ready.status == 200 and (ready.json["book"], ready.json["broker"]) == ("up", "down")
        assert (await client.get(f"/v1/tasks/{task['id']}")).json["state"] == "ready"

    with_front(book_url, body)


def test_what_was_taken_is_there_after_a_restart(book_url: str) -> None:
    ids: list[str] = []

    async def take(client: Client) -> None:
        for _ in range(3):
            ids.append((await client.add())["id"])

    async def look(client: Client) -> None:
        assert sorted(each["id"] for each in (await client.get("/v1/tasks")).json["tasks"]) == sorted(ids)

    with_front(book_url, take)
    with_front(book_url, look)


def test_all_that_match(book_url: str) -> None:
    async def body(client: Client) -> None:
        for number in range(7):
            await client.add("emails" if number % 2 else "default", delay="1h")
        chosen = {"filter": {"queue": "emails"}}
        counted = await client.post("/v1/tasks:cancel", {**chosen, "dry_run": True})
        assert counted.json == {"matched": 3, "changed": 0, "dry_run": True, "more": False}
        assert (await client.post("/v1/tasks:cancel", chosen)).json["changed"] == 3
        again = await client.post("/v1/tasks:retry", {"filter": {"state": "cancelled"}, "rate": 0.5})
        assert again.json["changed"] == 3
        states = [each["state"] for each in (await client.get("/v1/tasks?queue=emails")).json["tasks"]]
        assert sorted(states) == ["ready", "scheduled", "scheduled"], "two seconds apart"
        assert (await client.post("/v1/tasks:cancel", {})).status == 422, "not everything by accident"
        assert (await client.get("/v1/origins")).json["origins"] == []
        closing = await client.post("/v1/origins/https%3A%2F%2Fa.example%3A443:close-breaker")
        assert closing.status == 404

    with_front(book_url, body, queues=(QueueSettings("emails"),))
