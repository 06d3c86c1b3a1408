"""A worker process: takes workitems from its link, runs them one after the other, or side by side for coroutines.

It runs in a fork of the template, as the group's user, and must never speak AMQP nor know a broker's address. The end
of its link is the only order to stop: it finishes what it has read, calls `teardown` and returns.
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
from taskqueue.worker.line import Line, failed, tell
from taskqueue.worker.surroundings import Surroundings


def prepare(settings: GroupSettings) -> None:
    """To be called before a plugin is imported, in the process that serves, or that forks those that do: what is made
    before a fork is shared by all workers."""
    faulthandler.enable()
    bind(settings)


def serve(link: Link, factory: Callable[[], Callable[[], Any]], settings: GroupSettings) -> int:
    """Be a worker until the link ends, after `prepare`; gives the exit status. `factory()` gives the plugin's own."""
    line = Line(link)
    title = f"worker {settings.name}"
    set_title(title)
    try:
        made = make_worker(factory(), settings.worker_type)
    except BaseException as error:
        return failed(line, error)
    if is_async(made):
        from taskqueue.worker import coroutines  # asyncio is a third of a worker's memory: only for those who use it

        return coroutines.serve(line, made, settings, title)
    return _serve_sync(line, made, settings, title)


def _serve_sync(line: Line, made: Any, settings: GroupSettings, title: str) -> int:
    try:
        call(made, "setup")
    except BaseException as error:
        return failed(line, error)
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
        report, body = run_sync(made, assignment, packet.body, settings, limit)
        set_title(title)
        surroundings.restore()
        tell(line, report._replace(last=served == settings.max_tasks), body)
        if report.outcome == "memory":
            return MEMORY
    call(made, "teardown")
    return 0
