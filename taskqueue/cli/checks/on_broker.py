"""What `doctor` checks at the broker: hosts, TLS, version, rights, alarms, queues, consumers, dead letters, its clock.

It changes nothing but a queue of its own, which it makes to try its rights, and deletes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from taskqueue.amqp import Published
from taskqueue.cli.checks.on_host import POOL_SERVICE
from taskqueue.cli.terminal.findings import Finding, ok, problem, warning
from taskqueue.cli.terminal.show import span
from taskqueue.config.load import Settings
from taskqueue.config.settings import AmqpSettings, GroupSettings
from taskqueue.errors import BrokerRefused, BrokerUnavailable, TaskqueueError
from taskqueue.operations.broker import Broker
from taskqueue.operations.management import Management
from taskqueue.protocol import queues
from taskqueue.protocol.properties import Properties, new_id
from taskqueue.protocol.queues import Queue
from taskqueue.status.document import Pool

DISPATCHER_SERVICE = "python-taskqueue-dispatcher"
_OLDEST = (3, 10)
"""The first RabbitMQ with dead-lettering at least once."""
_CONNECT_S = 3.0
_PROBE_S = 15.0
_EXPIRES_SOON_D = 30
_RIGHTS = "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*', or all three for what taskqueue uses"
_SKEW_S = (2.0, 60.0)
"""From here on a warning, and a problem."""
_SHORTEST_TIMEOUT_S = 3 * queues.LEASE_AFTER_S
"""The `consumer_timeout` that leases are made for: two renewals in time, one of which may fail."""


# -- before there is a connection


def hosts(amqp: AmqpSettings) -> Iterator[Finding]:
    """Which hosts of the list can be reached, and what goes over the net in clear."""
    for host, port in amqp.hosts:
        name = f"{host}:{port}"
        try:
            with socket.create_connection((host, port), _CONNECT_S) as link:
                if amqp.ssl:
                    yield from _certificate(amqp, name, host, link)
        except OSError as error:
            if len(amqp.hosts) > 1:  # of a single one, the connection tells
                why = (error.strerror or str(error)).lower()
                yield warning("connection", f"{name}: {why}", "is this broker running? is there a firewall between?")
    remote = [host for host, _ in amqp.hosts if not _is_loopback(host)]
    if remote and not amqp.ssl:
        yield warning(
            "tls", f"password and workitems go to {', '.join(remote)} in clear", "[amqp] ssl: yes, with ca_file"
        )
    elif not amqp.ssl:
        yield ok("tls", "none, and none is needed on this host")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("localhost.")


def _certificate(amqp: AmqpSettings, name: str, host: str, link: socket.socket) -> Iterator[Finding]:
    try:
        context = ssl.create_default_context(cafile=amqp.ca_file)
        if amqp.cert_file is not None:
            context.load_cert_chain(amqp.cert_file, amqp.key_file)
        with context.wrap_socket(link, server_hostname=host) as wrapped:
            certificate = wrapped.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield problem("tls", f"{name}: {error.verify_message}", "[amqp] ca_file must hold the authority that signed it")
    except OSError as error:
        yield problem("tls", f"{name}: {error}", "does the broker speak TLS on this port? [amqp] ca_file, cert_file")
    else:
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        days = (ends - time.time()) / 86400
        found = f"{name}: certificate is good for {days:.0f} days more"
        if days < _EXPIRES_SOON_D:
            yield warning("tls", found, "renew it in time")
        else:
            yield ok("tls", found)


def connection(error: TaskqueueError) -> Finding:
    """Why there is none."""
    if isinstance(error, BrokerRefused):
        return problem("connection", str(error), "mend [amqp] in the config, or the user's rights at the broker")
    return problem("connection", str(error), "start the broker, or mend [amqp] host and port")


# -- with a connection


def server(broker: Broker, amqp: AmqpSettings) -> Iterator[Finding]:
    """Who answered, and whether it is new enough."""
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
        """A publish that is not allowed is tried again for ever; `trouble` has been told of it."""
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


def declared_queues(
    broker: Broker, settings: Settings, groups: Iterable[GroupSettings], management: Management, pool: Pool | None
) -> Iterator[Finding]:
    """Queues that are not as we would declare them, and what is to be done about those that nobody consumes."""
    amqp, groups = settings.amqp, tuple(groups)
    types = {group.worker_type: None for group in groups}
    for name in management.queues() or {}:
        if name.startswith(queues.WORKER_PREFIX):
            types[name.removeprefix(queues.WORKER_PREFIX)] = None
    workers = [queues.worker(each, amqp) for each in types]
    ours = [queues.ingress(amqp), queues.dead(), queues.delay_step(), *workers]
    ours += [queues.rung(each) for each in range(queues.LOWEST_RUNG, queues.HIGHEST_RUNG + 1)]
    ours += [queues.results(each) for each in dict.fromkeys(group.results_routing_key for group in groups)]
    counts = broker.counts_of(queue.name for queue in ours)
    different = 0
    for queue in (queue for queue in ours if counts[queue.name] is not None):
        try:
            difference = broker.difference(queue)
        except (BrokerRefused, BrokerUnavailable) as error:
            yield problem("queues", f"{queue.name}: {error}", "the user needs configure rights on it; has it a leader?")
            different += 1
            continue
        if difference is not None:
            different += 1
            yield warning("queues", difference, _migration(queue))
    if not different:
        exist = sum(found is not None for found in counts.values())
        yield ok("queues", f"{exist} exist, as we would declare them")
    # a group that runs consumes, but for the time in which all its workers are at long tasks
    here = {group.worker_type for group in pool.groups if group.state == "running"} if pool else ()
    yield from _consumers(broker, [queues.WORKER_PREFIX + each for each in types if each not in here])
    yield from _dead(broker)


def _migration(queue: Queue) -> str:
    setting = ""
    if queue.name == queues.INGRESS:
        setting = ", or say [amqp] ingress_queue_type as it is"
    elif queue.name.startswith(queues.WORKER_PREFIX):
        setting = ", or say [amqp] queue_type as it is"
    return (
        f"it is used as it is; to have it made anew: stop what publishes to it, let it run empty, "
        f"rabbitmqctl delete_queue {queue.name}{setting}"
    )


def _consumers(broker: Broker, workers: Iterable[str]) -> Iterator[Finding]:
    start = f"systemctl start {DISPATCHER_SERVICE}, on any host"
    ingress = broker.counts(queues.INGRESS)
    if ingress is None or not ingress.consumers:
        yield problem("consumers", f"no dispatcher runs; {_waiting(ingress.ready if ingress else 0)}", start)
    missing = 0
    for name in workers:
        found = broker.counts(name)
        if found is not None and found.consumers:
            continue
        missing += 1
        told = f"nobody takes from {name} at present; {_waiting(found.ready if found else 0)}"
        advice = f"systemctl start {POOL_SERVICE} on a host that has the plugin; taskqueue status there"
        yield (problem if found is not None and found.ready else warning)("consumers", told, advice)
    if ingress is not None and ingress.consumers and not missing:
        yield ok("consumers", f"{ingress.consumers} of the queue {queues.INGRESS}, and workers of each type")


def _waiting(ready: int) -> str:
    return f"{ready} workitem{' waits' if ready == 1 else 's wait'}"


def stuck(broker: Broker, pool: Pool, groups: Iterable[GroupSettings]) -> Iterator[Finding]:
    """Groups whose workers are all at something long that nothing ends, while others wait for them."""
    endless = {group.name for group in groups if group.time_limit_s is None}
    for group in pool.groups:
        oldest = [min((task.since for task in worker.tasks), default=pool.now) for worker in group.workers]
        long_s = pool.now - max(oldest, default=pool.now)
        if group.name not in endless or long_s < queues.LEASE_AFTER_S:
            continue
        found = broker.counts(queues.WORKER_PREFIX + group.worker_type)
        if found is not None and found.ready:
            yield warning(
                "workers",
                f"{group.name}: {_waiting(found.ready)}, and all its workers here have run the same for {span(long_s)}",
                f"taskqueue status, why ID; if they hang, a time_limit for {group.name}, and systemctl reload "
                f"{POOL_SERVICE}",
            )


def _dead(broker: Broker) -> Iterator[Finding]:
    found = broker.counts(queues.DEAD)
    if found is not None and found.ready:
        yield warning("dead letters", f"{found.ready} in {queues.DEAD}", "taskqueue dead list; then replay or drop")
    else:
        yield ok("dead letters", "none")


def consumer_timeout(broker: Broker, groups: Iterable[GroupSettings]) -> Iterator[Finding]:
    """The broker's `consumer_timeout` beside the time limits of the groups."""
    limits = {group.name: group.time_limit_s for group in groups}
    timeout_s = _consumer_timeout_s(broker)
    longest = max(limits, key=lambda name: limits[name] or float("inf"), default=None)
    tasks = "no group runs here"
    if longest is not None:
        limit_s = limits[longest]
        tasks = f"{longest} may run {f'{limit_s:g} s' if limit_s else 'for ever'}"
    lease = f"what runs longer than {queues.LEASE_AFTER_S:g} s is leased, and so not bound by it"
    if timeout_s is not None and timeout_s < _SHORTEST_TIMEOUT_S:
        yield warning(
            "consumer_timeout", f"{timeout_s:g} s at the broker; {tasks}",
            f"consumer_timeout = {_SHORTEST_TIMEOUT_S * 1000:.0f} or more in rabbitmq.conf: leases need so long",
        )  # fmt: skip
    else:
        known = "not known here" if timeout_s is None else "none" if timeout_s == float("inf") else f"{timeout_s:g} s"
        yield ok("consumer_timeout", f"{known}; {tasks}; {lease}")


def _consumer_timeout_s(broker: Broker) -> float | None:
    """As rabbitmqctl says, where it can be run here and its node is of our cluster; infinity for none."""
    program = shutil.which("rabbitmqctl", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not _is_loopback(broker.server.host.rpartition(":")[0].strip("[]")):
        return None
    question = "{rabbit_nodes:cluster_name(), application:get_env(rabbit, consumer_timeout)}."
    try:
        ran = subprocess.run(
            [program, "-q", "-t", "10", "eval", question], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=20.0, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = re.fullmatch(r'\{<<"(.*)">>,\s*(?:\{ok,\s*(\d+|undefined)\}|(undefined))\}', ran.stdout.strip())
    if answer is None or answer[1] != broker.server.cluster_name:
        return None
    return int(answer[2]) / 1000 if (answer[2] or "").isdigit() else float("inf")


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
