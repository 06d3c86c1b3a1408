"""`taskqueue-dispatcher`: composes and runs the dispatcher."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

from taskqueue.cli.daemon_options import OK, Command, run
from taskqueue.config.load import Settings
from taskqueue.dispatcher.dispatcher import Dispatcher
from taskqueue.errors import ConfigError
from taskqueue.foundation.loop import Loop, settle_in
from taskqueue.host import daemon, kernel
from taskqueue.host.spawn import identity
from taskqueue.host.title import set_title

NAME = "taskqueue-dispatcher"
_STOP_S = 30.0
"""From SIGTERM to giving up on answers from the broker."""
_MARGIN_S = 5.0

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; gives the exit status."""
    return run(NAME, "Dispatch workitems from the queue taskqueue to the queue of their worker type.", argv, _serve)


def _serve(command: Command) -> int:
    settings = command.settings
    with daemon.daemonized(command.options, settings.logging, become=identity(None)):
        kernel.hide_memory()  # it holds the broker's password; a worker may run as the same user
        loop = Loop()
        service = _Service(loop, command, settings)
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.on_signal(signum, service.stop)
        loop.on_signal(signal.SIGHUP, daemon.reloading(service.reload))
        set_title("dispatcher")
        service.start()
        daemon.notify("READY=1")
        daemon.feed_watchdog(loop)
        log.info("dispatcher started")
        settle_in()
        loop.start()
        log.info("dispatcher stopped: dispatched=%d dead=%d", service.dispatched, service.dead)
    return OK


class _Service:
    """The dispatcher that runs, and those that a reload is replacing."""

    def __init__(self, loop: Loop, command: Command, settings: Settings) -> None:
        self._loop = loop
        self._command = command
        self._settings = settings
        self._all: list[Dispatcher] = [Dispatcher(loop, settings)]
        self._stopping = False
        self.dispatched = 0
        self.dead = 0

    def start(self) -> None:
        self._all[-1].start()

    def reload(self) -> None:
        """SIGHUP: a changed config gets a new dispatcher; the old one finishes what it has in hand."""
        if self._stopping:
            return
        try:
            settings = self._command.load()
        except ConfigError as error:
            for fault in error.faults:
                log.error("%s", fault)
            log.error("not reloaded: the config has %d faults; nothing was changed", len(error.faults))
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
        daemon.stopping(_STOP_S + _MARGIN_S)
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


if __name__ == "__main__":
    sys.exit(main())
