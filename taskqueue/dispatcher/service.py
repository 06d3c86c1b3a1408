"""The dispatcher as a service: one that runs, and those that a reload has replaced and that finish what they have.

It must never touch a delivery: that is the `Dispatcher`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from taskqueue.config.load import Settings
from taskqueue.dispatcher.dispatcher import Dispatcher
from taskqueue.foundation.loop import Loop
from taskqueue.host import service_manager
from taskqueue.host.reload import reread

log = logging.getLogger(__name__)

_STOP_S = 30.0
"""From SIGTERM to giving up on answers from the broker."""
_MARGIN_S = 5.0


class Service:
    """The dispatcher that runs, and those that a reload is replacing."""

    def __init__(self, loop: Loop, load: Callable[[], Settings], settings: Settings) -> None:
        self._loop = loop
        self._load = load
        self._settings = settings
        self._all: list[Dispatcher] = [Dispatcher(loop, settings)]
        self._stopping = False
        self.dispatched = 0
        self.dead = 0

    def start(self) -> None:
        """Connect, and dispatch from then on."""
        self._all[-1].start()

    def reload(self) -> None:
        """SIGHUP: a changed config gets a new dispatcher; the old one finishes what it has in hand."""
        if self._stopping or (settings := reread(self._load)) is None:
            return
        if (settings.amqp, settings.dispatcher) == (self._settings.amqp, self._settings.dispatcher):
            log.info("reloaded: nothing changed")
            return
        log.info("reloaded: connecting anew")
        self._settings = settings
        old = self._all[-1]
        self._all.append(Dispatcher(self._loop, settings))
        self.start()
        self._end(old)

    def stop(self) -> None:
        """SIGTERM: finish what is in hand; the second one stops at once."""
        if self._stopping:
            self._loop.stop()
            return
        self._stopping = True
        service_manager.stopping(_STOP_S + _MARGIN_S)
        self._loop.call_later(_STOP_S, self._loop.stop)
        for dispatcher in list(self._all):
            self._end(dispatcher)

    def _end(self, dispatcher: Dispatcher) -> None:
        dispatcher.drain(lambda: self._ended(dispatcher))

    def _ended(self, dispatcher: Dispatcher) -> None:
        self._all.remove(dispatcher)
        self.dispatched += dispatcher.dispatched
        self.dead += dispatcher.dead
        if self._stopping and not self._all:
            self._loop.stop()
