"""`taskqueue status`: broker, queues and this host's workers on one screen; with `--watch` drawn again in its place."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from taskqueue.cli.arguments import value_types
from taskqueue.cli.arguments.common_options import operator_command, socket_option
from taskqueue.cli.checks.front_here import front_is_here
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal import front_picture
from taskqueue.cli.terminal.columns import Column
from taskqueue.cli.terminal.show import Show
from taskqueue.errors import BrokerRefused, BrokerUnavailable, FrontUnavailable, PoolUnavailable
from taskqueue.operations.broker import Broker
from taskqueue.operations.front_overview import FrontSeen, see_front
from taskqueue.operations.overview import Overview, see_broker
from taskqueue.operations.wording import last_line, span
from taskqueue.status.document import Group, Pool

_WATCHING_TIMEOUT_S = 3.0
"""Seconds for a broker to answer; a silent one stops the picture for no longer."""
_FRONT_S = 3.0
_ERROR_WIDTH = 80
"""Characters of a group's last error; `taskqueue plugins` and JSON have all of it."""
_NOT_KNOWN = "not known (the management plugin is not enabled)"


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


_QUEUES = (
    Column("queue"),
    Column("ready", right=True),
    Column("unacked", right=True),
    Column("consumers", right=True, styles={0: "bold yellow"}),
    Column("in_rate", "in/s", right=True, text=_rate),
    Column("out_rate", "out/s", right=True, text=_rate),
)
_STATES = {"running": "green", "backoff": "bold red", "refused": "bold red", "starting": "yellow"}
_GROUPS = (
    Column("group"),
    Column("state", styles=_STATES),
    Column("for", right=True, text=span),
    Column("workers", right=True),
    Column("busy", right=True),
    Column("waiting", right=True),
    Column("succeeded", "done", right=True),
    Column("failed", right=True),
    Column("crashed", right=True),
    Column("restarts", right=True),
    Column("last_error", text=partial(last_line, width=_ERROR_WIDTH), style="red"),
)
_TASKS = (
    Column("running"),
    Column("group"),
    Column("pid", right=True),
    Column("attempt", right=True),
    Column("for", right=True, text=span),
)


@click.command("status", short_help="Show broker, queues, and what this host's workers do.")
@operator_command()
@socket_option
@click.option("--watch", is_flag=True, help="Show it again and again, in its place, until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    type=value_types.duration,
    metavar="DURATION",
    default="2",
    help="With --watch: how often.",
)
def command(operator: Operator, socket: Path | None, watch: bool, interval_s: float) -> None:
    """Show the whole picture: the broker, its queues, this host's front with the queues of its tasks, the groups of
    this host's workerpool, what each worker runs.

    Rates, unacked workitems, alarms and the hosts of dispatchers are known where RabbitMQ's management plugin is
    enabled (TASKQUEUE_MANAGEMENT_URL says where, if it is not at the broker's host, port 15672). Without a broker the
    rest is shown, and the exit status is 3.
    """
    if watch:
        _watch(operator, socket, max(interval_s, 0.1))
        return
    overview = _host_of(operator, socket)
    try:
        with operator.broker() as broker:
            _see_broker(overview, operator, broker)
    except (BrokerUnavailable, BrokerRefused) as error:
        overview.trouble = str(error)
        _draw(operator.show, overview)
        raise
    _draw(operator.show, overview)


def _watch(operator: Operator, socket: Path | None, interval_s: float) -> None:
    with ExitStack() as stack, operator.show.in_place() as redraw:
        broker: Broker | None = None
        while True:
            overview = _host_of(operator, socket)
            try:
                if broker is None:
                    made = operator.broker(timeout_s=_WATCHING_TIMEOUT_S, trouble=lambda line: None)
                    broker = stack.enter_context(made)
                _see_broker(overview, operator, broker)
            except (BrokerUnavailable, BrokerRefused) as error:
                overview.trouble = str(error)
                if isinstance(error, BrokerRefused):  # this connection never comes back
                    stack.close()
                    broker = None
            redraw(partial(_draw, operator.show, overview))
            if broker is None:
                time.sleep(interval_s)
                continue
            try:
                broker.pause(interval_s)
            except BrokerRefused:
                stack.close()
                broker = None


def _see_broker(overview: Overview, operator: Operator, broker: Broker) -> None:
    see_broker(
        overview,
        broker,
        operator.management(broker),
        vhost=operator.settings.amqp.vhost,
        worker_types=operator.worker_types(overview.pool),
        results_queues=operator.results_of(),
    )


def _host_of(operator: Operator, socket: Path | None) -> Overview:
    overview = Overview(time.time())
    try:
        overview.pool = operator.pool(socket)
    except PoolUnavailable as error:
        overview.pool_trouble = str(error)
    if front_is_here(operator.settings):
        try:
            with operator.own_front(wait_s=_FRONT_S) as front:
                overview.front = see_front(front)
        except FrontUnavailable as error:
            overview.front = FrontSeen("", trouble=str(error))
    return overview


# -- to be seen


def _draw(show: Show, overview: Overview) -> None:
    if show.as_json:
        show.document(overview.document())
        return
    show.fields(_head(overview))
    if overview.queues:
        show.line("")
        show.table(
            _QUEUES,
            ((q.name, q.ready, q.unacked, q.consumers, q.in_rate, q.out_rate) for q in overview.queues),
        )
    if overview.front is not None:
        front_picture.show_queues(show, overview.front)
    pool = overview.pool
    if pool is not None and pool.groups:
        show.line("")
        show.table(_GROUPS, (_group_row(pool, group) for group in pool.groups))
        tasks = list(_tasks(pool))
        if tasks:
            show.line("")
            show.table(_TASKS, tasks)


def _head(overview: Overview) -> dict[str, Any]:
    server, pool = overview.server, overview.pool
    head: dict[str, Any] = {}
    if server is not None:
        head["broker"] = f"{server.product} {server.version} at {server.host}, vhost {overview.vhost}"
        head["cluster"] = server.cluster_name
        head["nodes"] = _NOT_KNOWN
        if overview.nodes is not None:
            head["nodes"] = ", ".join(f"{each.name} {'runs' if each.running else 'IS DOWN'}" for each in overview.nodes)
        alarms = overview.alarms
        head["alarms"] = _NOT_KNOWN if alarms is None else ", ".join(alarms) or "none"
    if overview.trouble is not None:
        head["broker trouble"] = overview.trouble
    if overview.dispatchers is not None:
        named = f": {', '.join(overview.dispatcher_names)}" if overview.dispatcher_names else ""
        head["dispatchers"] = (
            f"{overview.dispatchers}{named}" if overview.dispatchers else "none; nothing is dispatched"
        )
    if overview.front is not None:
        head |= front_picture.head(overview.front)
    if pool is None:
        head["workerpool"] = overview.pool_trouble
    else:
        head["workerpool"] = (
            f"{pool.version} on {pool.host}, pid {pool.pid}, {pool.state} for {span(pool.now - pool.since)}"
        )
        troubles = {each.trouble for group in pool.groups for each in group.generations if each.trouble}
        if troubles:
            head["workers' broker trouble"] = ", ".join(sorted(troubles))
        if any(each.blocked for group in pool.groups for each in group.generations):
            head["workers' broker trouble"] = "it takes no messages (memory or disk alarm)"
    return head


def _group_row(pool: Pool, group: Group) -> tuple[Any, ...]:
    workers = [worker for worker in group.workers if worker.state in ("idle", "running")]
    waiting = [each.waiting for each in group.generations if each.waiting is not None]
    done = {
        name: sum(each.counts.get(name, 0) for each in group.generations) for name in ("succeeded", "failed", "crashed")
    }
    return (
        group.name,
        group.state,
        pool.now - group.since,
        f"{len(workers)}/{group.workers_wanted}",
        sum(worker.state == "running" for worker in workers),
        sum(waiting) if waiting else None,
        *done.values(),
        group.restarts,
        group.last_error,
    )


def _tasks(pool: Pool) -> Iterator[tuple[Any, ...]]:
    """The workitems that run, the longest first."""
    rows = (
        (task.id, group.name, worker.pid, task.attempt, pool.now - task.since)
        for group in pool.groups
        for worker in group.workers
        for task in worker.tasks
    )
    yield from sorted(rows, key=lambda row: row[-1], reverse=True)
