"""Checks of the queues: arguments that differ from ours, queues that nobody consumes, stuck groups, dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taskqueue.config.load import Settings
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import BrokerRefused, BrokerUnavailable
from taskqueue.operations.broker import Broker
from taskqueue.operations.checks.workerpool import POOL_SERVICE
from taskqueue.operations.findings import Finding, ok, problem, warning
from taskqueue.operations.management import Management
from taskqueue.operations.wording import span
from taskqueue.protocol import queues
from taskqueue.protocol.queues import Queue
from taskqueue.status.document import Pool

DISPATCHER_SERVICE = "python-taskqueue-dispatcher"


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
        found_text = f"nobody takes from {name} at present; {_waiting(found.ready if found else 0)}"
        advice = f"systemctl start {POOL_SERVICE} on a host that has the plugin; taskqueue status there"
        yield (problem if found is not None and found.ready else warning)("consumers", found_text, advice)
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
