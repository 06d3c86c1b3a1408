"""The program `taskqueue-http`: reads its command line, opens its sockets, runs a front until the end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from taskqueue.cli.daemon_options import FAILURE, OK, Command, complain, run
from taskqueue.config.http_settings import HttpSettings
from taskqueue.config.load import Settings
from taskqueue.errors import BookMismatch, BookUnavailable, Collision, CommitInDoubt, DaemonError
from taskqueue.foundation.loop import settle_in
from taskqueue.host import daemon, kernel, service_manager
from taskqueue.host.reload import reread
from taskqueue.host.siblings import Siblings
from taskqueue.host.spawn import Identity, identity
from taskqueue.host.title import set_title

NAME = "taskqueue-http"

log = logging.getLogger(__name__)

_MARGIN_S = 5.0
"""Seconds that the end may take beyond `stop_timeout`; then the service manager kills the process."""


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; gives the exit status."""
    if find_spec("aiohttp") is None:
        print(f"{NAME}: aiohttp is not installed; install python-taskqueue-http, or pip install taskqueue[http]",
              file=sys.stderr)  # fmt: skip
        return FAILURE
    return run(NAME, "Take tasks over HTTP, and hand them to workers.", argv, _serve)


def _serve(command: Command) -> int:
    from taskqueue.http.listening import close_sockets, open_sockets

    settings = command.settings
    who = identity(None)
    _make_directory(settings.http.book, who)
    sockets = open_sockets(settings.http.listen)
    try:
        with daemon.daemonized(command.options, settings.logging, become=who, keep=sockets):
            kernel.hide_memory()  # it holds the passwords of broker and book
            kernel.raise_descriptor_limit()  # one for each client
            set_title("http")
            count = settings.http.processes or len(os.sched_getaffinity(0))
            if count == 1:
                asyncio.run(_life(command, sockets))
                return OK
            siblings = Siblings(count, partial(_sibling, command, sockets), settings.workerpool.stop_timeout_s)
            return siblings.run()
    finally:
        close_sockets(sockets, settings.http.listen)


def _make_directory(book: str, who: Identity) -> None:
    """Where root starts it from a checkout, with the book in its default place: make the directory, for `who`."""
    directory = Path(book.removeprefix("sqlite:")).parent
    if os.geteuid() == 0 and book == HttpSettings().book and not directory.exists():
        with suppress(FileExistsError):
            directory.mkdir(mode=0o750)
            os.chown(directory, who.uid, who.gid)


def _sibling(command: Command, sockets: list[socket.socket], number: int, beat: Callable[[], None]) -> int:
    """One of several front processes."""
    set_title(f"http {number}")
    try:
        asyncio.run(_life(command, sockets, beat))
    except DaemonError as error:
        if command.options.foreground:
            complain(NAME, str(error))
        else:
            log.critical("%s", error)
        return FAILURE
    return OK


async def _life(command: Command, sockets: list[socket.socket], beat: Callable[[], None] = lambda: None) -> None:
    """A front from its start to its end. `beat()` is called when it serves, and whenever it makes progress."""
    from taskqueue.http.front import Front
    from taskqueue.http.listening import names_of

    settings = command.settings
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    now = asyncio.Event()
    front = Front(settings.http, settings.amqp, sockets)
    watchdog = service_manager.Watchdog()

    def turned() -> None:
        watchdog.feed()
        beat()

    try:
        await front.start(on_turn=turned)
    except (BookUnavailable, CommitInDoubt, Collision) as error:
        raise DaemonError(f"{error}{_hint(settings)}") from None
    except BookMismatch as error:
        raise DaemonError(str(error)) from None

    def stop() -> None:
        (now if stopping.is_set() else stopping).set()

    def reload() -> None:
        async def reloading() -> None:
            nonlocal settings
            service_manager.reload_begins()
            if (fresh := reread(command.load)) is not None:
                settings = fresh
                await front.reload(fresh.http)
                log.info("reloaded: queues=%d", len(fresh.http.queues))
            service_manager.notify("READY=1")

        reloads.append(asyncio.ensure_future(reloading()))

    reloads: list[asyncio.Future[None]] = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    service_manager.notify("READY=1")
    beat()
    log.info("front started: listen=%s book=%s", ",".join(names_of(sockets)), front.book.shown)
    settle_in()
    while not stopping.is_set():
        try:
            async with asyncio.timeout(1.0):
                await stopping.wait()
        except TimeoutError:
            if (ended := front.watch()) is not None:
                log.critical("a part of the front has ended, which none may: %s", ended.get_name(),
                             exc_info=ended.exception())  # fmt: skip
                os._exit(FAILURE)
    patience_s = settings.workerpool.stop_timeout_s
    service_manager.stopping(patience_s + _MARGIN_S)
    end = asyncio.ensure_future(front.stop(patience_s))
    at_once = asyncio.ensure_future(now.wait())
    await asyncio.wait({end, at_once}, timeout=patience_s + _MARGIN_S, return_when=asyncio.FIRST_COMPLETED)
    if end.done():
        end.result()
    else:  # what is cut off now may complain
        logging.getLogger("aiohttp.server").disabled = True
        loop.set_exception_handler(lambda _loop, context: log.debug("cut off: %s", context["message"]))
    at_once.cancel()
    log.info("front stopped")


def _hint(settings: Settings) -> str:
    if settings.http.book.startswith("sqlite:"):
        return "; name another file with `book:` in [http], or start it as the user taskqueue"
    return ""


if __name__ == "__main__":
    sys.exit(main())
