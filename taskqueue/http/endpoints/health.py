"""The routes that say how the front is, and what it can do."""

from __future__ import annotations

import json

from taskqueue import __version__
from taskqueue.http.api import problems
from taskqueue.http.api.openapi import openapi
from taskqueue.http.desk import Desk
from taskqueue.http.exchange import Answer, Question, document


async def live(desk: Desk, question: Question) -> Answer:
    """`GET /health/live`: the process answers."""
    return document(200, {"status": "ok"})


async def ready(desk: Desk, question: Question) -> Answer:
    """`GET /health/ready`: 200 while tasks are taken, whatever the broker does; 503 where the book is away."""
    health = await desk.health()
    status = {"status": "ok" if health.book is None else "unavailable"}
    body = {
        **status,
        "book": "up" if health.book is None else "down",
        "broker": "up" if health.broker is None else "down",
        "reasons": [each for each in (health.book, health.broker) if each is not None],
    }
    return document(200 if health.book is None else 503, body, {} if health.book is None else {"Retry-After": "1"})


async def api_document(desk: Desk, question: Question) -> Answer:
    """`GET /openapi.json`."""
    return Answer(200, json.dumps(openapi(__version__, question.root)).encode() + b"\n")


async def list_problems(desk: Desk, question: Question) -> Answer:
    """`GET /problems`: the catalogue."""
    return document(200, {"problems": problems.index()})


async def problem_page(desk: Desk, question: Question) -> Answer:
    """`GET /problems/{slug}`: a page for people."""
    return Answer(200, problems.page(question.parameters["type"]).encode(), {}, "text/html; charset=utf-8")
