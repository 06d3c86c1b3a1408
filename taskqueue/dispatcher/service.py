"""The dispatcher as a service: the one that runs, and those that a reload has replaced and that finish their work.

1. `start`: the first dispatcher connects to the broker.
2. `reload`, where `[amqp]` or `[dispatcher]` has changed: a second dispatcher connects, by the new settings. The first
   one is drained: it consumes no more, waits for the confirms of what it has published, and is dropped.
3. `stop`: every dispatcher is drained. When the last one has ended, or after 30 s, the loop stops.

This module must never touch a delivery: that is the `Dispatcher`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from taskqueue import workitem
from taskqueue.config.load import Settings
from taskqueue.dispatcher.dispatcher import Dispatcher
from taskqueue.foundation.loop import Loop
from taskqueue.host import service_manager
from taskqueue.host.reload import reread

log = logging.getLogger(__name__)

_STOP_S = 30.0
"""Seconds from SIGTERM until the broker's confirms are no longer waited for; what is unsettled then is redelivered."""
_MARGIN_S = 5.0
"""Seconds that the end may take beyond that; then the service manager kills the process."""


class Service:
    """The dispatcher that runs, and those that are drained. `make(loop, settings)` makes one; it differs in tests."""

    def __init__(
        self,
        loop: Loop,
        load: Callable[[], Settings],
        settings: Settings,
        make: Callable[[Loop, Settings], Dispatcher] = Dispatcher,
    ) -> None:
        self._loop = loop
        self._load = load
        self._make = make
        self._settings = settings
        self._all: list[Dispatcher] = [make(loop, settings)]
        self._stopping = False
        self.dispatched = 0
        """Workitems sent on by the dispatchers that have ended."""
        self.dead = 0
        """How many of them became dead letters."""

    def start(self) -> None:
        """Load every format, then connect; workitems are dispatched from then on."""
        workitem.formats()
        self._all[-1].start()

    def reload(self) -> None:
        """SIGHUP: where the config has changed a new dispatcher takes over, and the old one is drained."""
        if self._stopping or (settings := reread(self._load)) is None:
            return
        if (settings.amqp, settings.dispatcher) == (self._settings.amqp, self._settings.dispatcher):
            log.info("reloaded: nothing changed")
            return
        log.info("reloaded: connecting anew")
        self._settings = settings
        old = self._all[-1]
        self._all.append(self._make(self._loop, settings))
        self._all[-1].start()
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
