"""`taskqueue doctor`: runs every check, the host's first, then the broker's, and shows a line for each finding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from taskqueue.cli.arguments.common_options import operator_command, socket_option
from taskqueue.cli.checks import of_front, on_host
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.findings import show_findings
from taskqueue.config.load import Settings
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import BrokerRefused, BrokerUnavailable, ConfigError
from taskqueue.operations.checks import broker_health, queue_health, reachability, workerpool
from taskqueue.operations.checks.consumer_timeout import consumer_timeout
from taskqueue.operations.findings import Finding
from taskqueue.status.document import Pool


@click.command("doctor", short_help="Check everything; say what to do about it.")
@operator_command()
@socket_option
def command(operator: Operator, socket: Path | None) -> int:
    """Check config and its files, users, plugins, the workerpool, the clock; this host's front, its book, tokens and
    targets; and at the broker: connection, TLS, version, rights, alarms, queues that are not as taskqueue would declare
    them, missing consumers, consumer_timeout, dead letters. A line each: ok, warning or problem, and what to do about
    it.

    It imports each plugin that is to run, in a process of its own, and makes and deletes a queue taskqueue_doctor_…;
    nothing else is changed. Exit status 1 where there is a problem, else 0.
    """
    return show_findings(operator.show, _look(operator, socket))


def _look(operator: Operator, socket: Path | None) -> Iterator[Finding]:
    yield from on_host.config(operator)
    settings = on_host.lenient(operator)
    if settings is None:
        return  # nothing else can be known
    wanted = on_host.wanted(operator, settings)
    yield from on_host.files(operator)
    yield from on_host.users(wanted)
    yield from on_host.plugins(operator, wanted)
    pool = on_host.pool(operator, socket)
    yield from workerpool.workerpool(pool, {group.name for group in wanted})
    yield from workerpool.clock()
    yield from of_front.front(operator, settings, wanted)
    yield from reachability.hosts(settings.amqp)
    try:
        yield from _look_at_broker(operator, settings, wanted, pool if isinstance(pool, Pool) else None)
    except (BrokerUnavailable, BrokerRefused, ConfigError) as error:
        yield reachability.connection(error)


def _look_at_broker(
    operator: Operator, settings: Settings, wanted: tuple[GroupSettings, ...], pool: Pool | None
) -> Iterator[Finding]:
    amqp = settings.amqp
    with operator.broker(amqp) as broker:
        management = operator.management(broker, amqp)
        yield from broker_health.server(broker, amqp)
        yield from queue_health.declared_queues(broker, settings, wanted, management, pool)
        if pool is not None:
            yield from queue_health.stuck(broker, pool, wanted)
        yield from consumer_timeout(broker, wanted)
        yield from broker_health.clock(management)
    trouble: list[str] = []
    with operator.broker(amqp, trouble=trouble.append) as broker:
        yield from broker_health.rights_and_alarms(broker, management, trouble)
