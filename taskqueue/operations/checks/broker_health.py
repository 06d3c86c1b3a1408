"""Checks of a broker that answers: its version, our rights, its alarms, its nodes, its clock.

They change nothing but a queue of their own, `taskqueue_doctor_…`, which is made to try our rights and deleted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from taskqueue.amqp import Published
from taskqueue.config.settings import AmqpSettings
from taskqueue.errors import BrokerRefused
from taskqueue.operations.broker import Broker
from taskqueue.operations.findings import Finding, ok, problem, warning
from taskqueue.operations.management import Management
from taskqueue.protocol.properties import Properties, new_id
from taskqueue.protocol.queues import Queue

_OLDEST = (3, 10)
"""The first RabbitMQ with dead-lettering at least once; older ones are a problem."""
_PROBE_S = 15.0
"""Seconds to wait for the confirm of the message that tries our rights."""
_RIGHTS = "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*', or all three for what taskqueue uses"
_SKEW_S = (2.0, 60.0)
"""Seconds between the two clocks: from the first on a warning, from the second on a problem."""


def server(broker: Broker, amqp: AmqpSettings) -> Iterator[Finding]:
    """Which broker answered, and whether it is new enough."""
    found = broker.server
    yield ok("connection", f"{found.host}, virtual host {amqp.vhost}, user {amqp.user}")
    name = f"{found.product} {found.version}"
    numbers = tuple(int(each) for each in re.findall(r"\d+", found.version)[:2])
    if found.product != "RabbitMQ":
        yield warning("version", name, "taskqueue is made for RabbitMQ")
    elif numbers < _OLDEST:
        yield problem("version", name, "upgrade to 3.10 or newer: older ones lose dead letters")
    else:
        yield ok("version", name)


def rights_and_alarms(broker: Broker, management: Management, trouble: Sequence[str]) -> Iterator[Finding]:
    """Make a queue, publish to it, read it, delete it. A broker under alarm takes no message, and after one hears no
    more of what comes on the connection: nothing else can be asked on it."""
    queue = Queue(f"taskqueue_doctor_{new_id()}", {"x-expires": 60_000})
    answers: list[Published] = []

    def refusal() -> str | None:
        """The broker's 403; the publisher tries a publish without permission for ever, and logs it to `trouble`."""
        return next((line.partition("reason=")[2] for line in trouble if "403" in line), None)

    try:
        broker.session.have(queue, time.monotonic() + _PROBE_S)
    except BrokerRefused as error:
        yield problem("rights", str(error), _RIGHTS)
        return
    broker.session.publisher.publish(queue.name, Properties(message_id=new_id()), b"", answers.append)
    broker.session.wait(lambda: answers or broker.blocked or refusal(), time.monotonic() + _PROBE_S)
    if why := refusal():
        broker.delete(queue.name)
        yield problem("rights", f"{broker.server.host}: {why}", _RIGHTS)
        return
    if answers:
        try:
            with broker.read(queue.name) as reading:
                for message in reading:
                    message.take()
            yield ok("rights", "may make queues, publish and consume")
        except BrokerRefused as error:
            yield problem("rights", str(error), _RIGHTS)
        broker.delete(queue.name)
    yield from _alarms(broker, management, bool(answers))


def _alarms(broker: Broker, management: Management, takes_messages: bool) -> Iterator[Finding]:
    advice = "rabbitmq-diagnostics alarms; free memory or disk: it goes on by itself"
    nodes = management.nodes() or []
    for node in nodes:
        if not node.running:
            yield problem("nodes", f"{node.name} does not run", "start it, or take it out of the cluster")
        if node.partitions:
            yield problem("nodes", f"{node.name} is parted from {', '.join(node.partitions)}", "restart one side")
        for alarm, is_on in (("memory", node.memory_alarm), ("disk", node.disk_alarm)):
            if is_on:
                yield problem("alarms", f"{node.name} has a {alarm} alarm: it takes no messages", advice)
    if takes_messages and not any(node.memory_alarm or node.disk_alarm for node in nodes):
        yield ok("alarms", "none")
    elif not takes_messages and not any(node.memory_alarm or node.disk_alarm for node in nodes):
        why = "memory or disk alarm" if broker.blocked else f"no confirm within {_PROBE_S:g} s"
        yield problem("alarms", f"the broker takes no messages: {why}", advice)


def clock(management: Management) -> Iterator[Finding]:
    """The broker's clock beside this host's."""
    ahead_s = management.clock_ahead_s()
    if ahead_s is None:
        return
    warn_s, bad_s = _SKEW_S
    found = f"the broker's clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this host's"
    if abs(ahead_s) < warn_s:
        yield ok("clock", "the broker's is the same, to a second")
    else:
        yield (problem if abs(ahead_s) >= bad_s else warning)(
            "clock", found, "let both hosts keep time (chrony, systemd-timesyncd)"
        )
