"""Several processes of one program, side by side: forks them, tells them what the parent is told, replaces the dead.

1. `Siblings(3, body, patience_s=30).run()`, before any thread or loop exists: the first process is forked, and when it
   serves, the other two. A first one that fails ends it all: what is wrong is said once.
2. All three serve: the service manager is told. In each process `body(number, beat)` calls `beat()` whenever it makes
   progress, the first time when it serves.
3. One dies, or has not called `beat()` for half a minute and is killed: another is forked, after a while that grows.
4. SIGHUP goes on to all. SIGTERM and SIGINT too: then nothing is forked any more, and the end is awaited.

The kernel ends the processes, should the parent be killed. The parent does nothing else: it must never have a thread.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from taskqueue.foundation.backoff import Backoff
from taskqueue.host import kernel, service_manager

log = logging.getLogger(__name__)

Body = Callable[[int, Callable[[], None]], int]
"""`body(number, beat)` is one process, from its start to its exit status; `number` is from 1."""

_SILENT_S = 30.0
"""Seconds after its last beat when a process is taken for stuck, and killed."""
_MARGIN_S = 5.0
"""Seconds that a process may take beyond `patience_s` for its end, before it is killed."""
_TURN_S = 0.2
_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS = _STOPS | {signal.SIGHUP, signal.SIGCHLD}


@dataclass(slots=True)
class _Sibling:
    """One of the processes, by its number; `pid` 0: it is to be forked at `due`."""

    number: int
    pid: int = 0
    pipe: int = -1
    serves: bool = False
    beaten: float = 0.0
    due: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.25, 10.0))


class Siblings:
    """`patience_s`: seconds that the processes may take for their end."""

    def __init__(self, count: int, body: Body, patience_s: float) -> None:
        self._body = body
        self._patience_s = patience_s
        self._all = [_Sibling(number) for number in range(1, count + 1)]
        self._watchdog = service_manager.Watchdog()
        self._ready = False
        self._failed: int | None = None
        self._until: float | None = None
        """When those that still run are killed; None: nobody has told to stop."""

    def run(self) -> int:
        """Run until a signal ends it; gives the exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while self._until is None or any(each.pid for each in self._all):
            self._fork_due()
            found = signal.sigtimedwait(_SIGNALS, _TURN_S)
            if found is not None:
                self._told(signal.Signals(found.si_signo))
            self._look()
        return self._failed or 0

    def _fork_due(self) -> None:
        now = time.monotonic()
        for each in self._all:
            if self._until is None and not each.pid and each.due <= now and (self._all[0].serves or each.number == 1):
                self._fork(each)

    def _fork(self, sibling: _Sibling) -> None:
        parent, (ours, theirs) = os.getpid(), os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = self._be(sibling.number, theirs, parent)
            except BaseException:
                log.critical("unexpected error", exc_info=True)
            finally:
                logging.shutdown()
                os._exit(status)
        os.close(theirs)
        sibling.pid, sibling.pipe, sibling.serves, sibling.beaten = pid, ours, False, time.monotonic()

    def _be(self, number: int, pipe: int, parent: int) -> int:
        """Be one of the processes; gives its exit status."""
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
            os.environ.pop(name, None)  # the service manager hears the parent
        kernel.die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            return 1
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

        def beat() -> None:
            with suppress(BlockingIOError):
                os.write(pipe, b".")

        return self._body(number, beat)

    def _told(self, signum: signal.Signals) -> None:
        if signum == signal.SIGCHLD:
            return
        for each in self._all:
            if each.pid:
                kernel.kill(each.pid, signum)
        if signum == signal.SIGHUP:
            service_manager.reloading(lambda: None)()
        elif self._until is None:
            self._stop()

    def _stop(self) -> None:
        self._until = time.monotonic() + self._patience_s + _MARGIN_S
        service_manager.stopping(self._patience_s + _MARGIN_S)

    def _look(self) -> None:
        """See who beats, who is stuck and who has died."""
        now = time.monotonic()
        for each in (each for each in self._all if each.pid):
            self._listen(each, now)
            if now > (each.beaten + _SILENT_S if self._until is None else self._until):
                log.error("process killed, for it is stuck: number=%d pid=%d", each.number, each.pid)
                kernel.kill(each.pid, signal.SIGKILL)
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if pid:
                self._died(each, os.waitstatus_to_exitcode(status), now)
        if not self._ready and all(each.serves for each in self._all):
            self._ready = True
            service_manager.notify("READY=1")
            log.info("all processes serve: processes=%d", len(self._all))
        self._watchdog.feed()

    def _listen(self, sibling: _Sibling, now: float) -> None:
        with suppress(BlockingIOError):
            if os.read(sibling.pipe, 4096):
                sibling.serves, sibling.beaten = True, now

    def _died(self, sibling: _Sibling, code: int, now: float) -> None:
        os.close(sibling.pipe)
        served = sibling.serves
        sibling.pid, sibling.pipe, sibling.serves = 0, -1, False
        if self._until is not None:
            if code:
                log.error("process did not end well: number=%d %s", sibling.number, kernel.exit_text(code))
            return
        if not self._ready and not served:  # it has said why
            self._failed = 1
            self._stop()
            for each in self._all:
                if each.pid:
                    kernel.kill(each.pid, signal.SIGTERM)
            return
        if served:
            sibling.backoff.reset()
        wait_s = sibling.backoff.next_s()
        sibling.due = now + wait_s
        log.error("process died, another is started in %.1f s: number=%d %s", wait_s, sibling.number,
                  kernel.exit_text(code))  # fmt: skip
