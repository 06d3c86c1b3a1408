"""The orders and answers between pool, listener and template, typed: one table for all of them.

1. The pool starts a template and a listener, and sends each its `…Start`. Their own link joins the two.
2. The template imports the plugin, forks a worker and sends the listener `WorkerForked(pid=4711)` with both ends of
   that worker's link. The listener answers `WorkerReady(4711)` when the worker serves, and tells the pool `Ready()`.
3. The listener orders `KillWorker(4711, "time_limit")`; the template answers `WorkerGone(4711, -9, "time_limit")`.
4. The pool orders `Drain()`; the listener finishes what runs, orders `Retire()`, gets `NoWorkerLeft()` and ends.

On the link an order is a JSON list, `["worker-gone", 4711, -9, "time_limit"]`. A template runs plugin code: what it
sends is checked as if it came from an enemy. This module must never act on an order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from taskqueue.errors import LinkError
from taskqueue.link.packets import Link


class TemplateStart(NamedTuple):
    """Pool to template, the first packet: what to run."""

    group: Mapping[str, Any]
    """`GroupSettings`, as `config.settings.to_json` writes them."""
    logging: Mapping[str, Any]
    """`LoggingSettings`, likewise."""
    log_fd: int | None
    """The inherited descriptor that the log goes to; None where it goes to syslog or the journal."""
    entry_value: str
    """`package.module:object`, as the plugin's entry point has it."""
    cgroup: str | None
    """Path of the cgroup that bounds the workers' memory; None where `max_memory` is bounded otherwise, or not set."""


class ListenerStart(NamedTuple):
    """Pool to listener, the first packet. It holds the broker's password: for this private socket only."""

    group: Mapping[str, Any]
    amqp: Mapping[str, Any]
    """`AmqpSettings`, as `config.settings.to_json` writes them."""
    results_ttl_s: float
    """Seconds that an unread result is kept."""
    logging: Mapping[str, Any]
    log_fd: int | None


class Drain(NamedTuple):
    """Pool to listener: take nothing more, finish what runs, hand back the rest, end."""


class StopNow(NamedTuple):
    """Pool to listener: kill the workers, requeue what they ran, end."""


class AskStatus(NamedTuple):
    """Pool to listener: answer with `Status`."""


class Status(NamedTuple):
    """Listener to pool: its part of the status document."""

    document: dict[str, Any]


class Ready(NamedTuple):
    """Listener to pool: all workers serve."""


class Failed(NamedTuple):
    """Listener or template to pool: a worker, or the plugin's import, failed."""

    trace: str
    """The traceback, or one line that says why."""
    serving: int = 0
    """How many workers serve all the same."""


class WorkerForked(NamedTuple):
    """Template to listener, with two descriptors: the listener's end of the worker's link, and the worker's own."""

    pid: int


class WorkerReady(NamedTuple):
    """Listener to template: that worker serves; its death is not the plugin's failure to start."""

    pid: int


class WorkerGone(NamedTuple):
    """Template to listener: that worker was reaped."""

    pid: int
    exit_code: int
    """Negative for a signal, as in `subprocess`."""
    why: str | None
    """The reason that `KillWorker` gave, or that the worker ran out of memory; None where it died by itself."""


class KillWorker(NamedTuple):
    """Listener to template: end that worker with SIGKILL."""

    pid: int
    why: str
    """Comes back in `WorkerGone`."""


class KillAllWorkers(NamedTuple):
    """Listener to template: end every worker with SIGKILL, replace none, answer `NoWorkerLeft`."""


class Retire(NamedTuple):
    """Listener to template: replace no worker; answer `NoWorkerLeft` when the last one has left."""


class NoWorkerLeft(NamedTuple):
    """Template to listener: the last worker was reaped."""


Order = (
    TemplateStart | ListenerStart | Drain | StopNow | AskStatus | Status | Ready | Failed
    | WorkerForked | WorkerReady | WorkerGone | KillWorker | KillAllWorkers | Retire | NoWorkerLeft
)  # fmt: skip

Start = TypeVar("Start", TemplateStart, ListenerStart)

_NONE = type(None)
_TABLE: dict[str, tuple[type[Order], tuple[type | tuple[type, ...], ...]]] = {
    "template-start": (TemplateStart, (dict, dict, (int, _NONE), str, (str, _NONE))),
    "listener-start": (ListenerStart, (dict, dict, (int, float), dict, (int, _NONE))),
    "drain": (Drain, ()),
    "stop-now": (StopNow, ()),
    "ask-status": (AskStatus, ()),
    "status": (Status, (dict,)),
    "ready": (Ready, ()),
    "failed": (Failed, (str, int)),
    "worker-forked": (WorkerForked, (int,)),
    "worker-ready": (WorkerReady, (int,)),
    "worker-gone": (WorkerGone, (int, int, (str, _NONE))),
    "kill-worker": (KillWorker, (int, str)),
    "kill-all-workers": (KillAllWorkers, ()),
    "retire": (Retire, ()),
    "no-worker-left": (NoWorkerLeft, ()),
}
"""Every order by its word on the link, with the types of its fields."""
_DESCRIPTORS: dict[type[Order], int] = {WorkerForked: 2}
"""How many descriptors come with an order; 0 with those that are not named here."""
_WORDS = {kind: word for word, (kind, _types) in _TABLE.items()}


class Received(NamedTuple):
    """An order, and the descriptors that came with it."""

    order: Order
    fds: tuple[int, ...]


def send(link: Link, order: Order, fds: Sequence[int] = (), *, wait: bool = False) -> bool:
    """Send `order`; False where the queue to the reader is full and `wait` is not set. Raises `LinkError` where the
    other end is gone."""
    return link.send([_WORDS[type(order)], *order], fds=fds, wait=wait)


def receive(link: Link, *, wait: bool = False) -> Received | None:
    """The next order; None where there is none at present and `wait` is not set.

    Raises `EOFError` at the end, and `LinkError` for what is no order.
    """
    packet = link.receive(wait=wait)
    if packet is None:
        return None
    word, *fields = packet.head
    known = _TABLE.get(word) if isinstance(word, str) else None
    if known is None:
        raise LinkError(f"no such order: {word!r:.80}")
    kind, types = known
    if len(fields) != len(types) or not all(map(isinstance, fields, types)):
        raise LinkError(f"not an order {word}: its fields have the wrong types")
    expected = _DESCRIPTORS.get(kind, 0)
    if len(packet.fds) != expected:
        for fd in packet.fds:
            os.close(fd)
        raise LinkError(f"not an order {word}: {len(packet.fds)} descriptors; expected {expected}")
    return Received(kind(*fields), packet.fds)


def receive_start(pool: Link, kind: type[Start]) -> Start | None:
    """Wait for the first order of the pool, a `kind`; None where the pool is gone. Raises `LinkError` for any other."""
    try:
        received = receive(pool, wait=True)
    except EOFError:
        return None
    if received is None or not isinstance(received.order, kind):
        raise LinkError(f"not a {kind.__name__}: {type(received and received.order).__name__}")
    return received.order
