"""A worker process: makes the plugin's worker, chooses how to serve, and serves a sync handler itself.

1. It calls the plugin's factory. For a coroutine handler, `worker.coroutines` does the rest.
2. It calls `setup` and reports `ready`.
3. It reads a workitem from its link, runs the attempt, puts its surroundings back, reports; again and again.
4. It stops at the end of its link, after `max_tasks` attempts, or after one that was out of memory. It calls `teardown`
   and gives its exit status, but after `memory` at once: the heap is not to be trusted.

It runs in a fork of the template, as the group's user. It must never speak AMQP, nor know a broker's address.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable
from typing import Any

from taskqueue.config.settings import GroupSettings
from taskqueue.host.title import set_title
from taskqueue.link.assignment import Assignment
from taskqueue.link.exits import MEMORY
from taskqueue.link.packets import Link
from taskqueue.worker.execution import SoftLimit, bind, call, is_async, make_worker, run_sync
from taskqueue.worker.line import Line, report_attempt, report_failure
from taskqueue.worker.surroundings import Surroundings


def prepare(settings: GroupSettings) -> None:
    """Call it before the plugin is imported, in the process that serves or that forks workers.

    What exists before a fork is memory that all workers share.
    """
    faulthandler.enable()
    bind(settings)


def serve(link: Link, factory: Callable[[], Callable[[], Any]], settings: GroupSettings) -> int:
    """Be a worker until the link ends, after `prepare`; gives the exit status.

    `factory()` gives what the plugin's entry point names: the plugin's own factory, or its class.
    """
    line = Line(link)
    title = f"worker {settings.name}"
    set_title(title)
    try:
        worker = make_worker(factory(), settings.worker_type)
    except BaseException as error:
        return report_failure(line, error)
    if is_async(worker):
        from taskqueue.worker import coroutines  # asyncio is a third of a worker's memory: only for those who use it

        return coroutines.serve(line, worker, settings, title)
    return _serve_sync(line, worker, settings, title)


def _serve_sync(line: Line, worker: Any, settings: GroupSettings, title: str) -> int:
    try:
        call(worker, "setup")
    except BaseException as error:
        return report_failure(line, error)
    limit = SoftLimit(settings.soft_time_limit_s)
    surroundings = Surroundings()
    line.send(["ready"])
    served = 0
    while settings.max_tasks is None or served < settings.max_tasks:
        try:
            packet = line.receive(wait=True)
        except EOFError:
            break
        assert packet is not None
        assignment = Assignment(*packet.head)
        served += 1
        set_title(f"{title} [task {assignment.message_id:.36}]")
        report, body = run_sync(worker, assignment, packet.body, settings, limit)
        set_title(title)
        surroundings.restore()
        report_attempt(line, report._replace(last=served == settings.max_tasks), body)
        if report.outcome == "memory":
            return MEMORY
    call(worker, "teardown")
    return 0
