"""Messages to the service manager (systemd): ready, reloading, stopping, and its watchdog.

A unit with `Type=notify` and `WatchdogSec=30s` sees `READY=1` after the start, `RELOADING=1` and again `READY=1`
around a SIGHUP, `WATCHDOG=1` every 15 seconds, and `STOPPING=1` at the end; see sd_notify(3). Without a service manager
every function here does nothing. A message that cannot be sent must never end the daemon.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

from taskqueue.foundation.loop import Loop

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `state`, such as `READY=1`, to the service manager, if there is one; never raises."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)
    except OSError as error:
        log.warning("service manager not notified: state=%s reason=%s", state, error.strerror)


def reload_begins() -> None:
    """Notify the service manager that this process reloads; `READY=1` ends that."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def reloading(reload: Callable[[], None]) -> Callable[[], None]:
    """A function that calls `reload`, and notifies the service manager before it and after it."""

    def notifying() -> None:
        reload_begins()
        reload()
        notify("READY=1")

    return notifying


def stopping(patience_s: float) -> None:
    """Notify the service manager that this process stops, and may take `patience_s` seconds for it."""
    notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(patience_s * 1e6)}")


def feed_watchdog(loop: Loop) -> None:
    """Feed the service manager's watchdog, if it has one for this process, for as long as the loop turns.

    It does so twice in each period of `WATCHDOG_USEC` (sd_watchdog_enabled(3)): one message may be late.
    """
    period_s = _watchdog_period_s()
    if period_s is None:
        return

    def feed() -> None:
        notify("WATCHDOG=1")
        loop.call_later(period_s, feed)

    feed()


class Watchdog:
    """Feeds the service manager's watchdog when its owner makes progress: `feed` as often as you like."""

    def __init__(self) -> None:
        self._period_s = _watchdog_period_s()
        self._fed = float("-inf")

    def feed(self) -> None:
        """Progress was made."""
        now = time.monotonic()
        if self._period_s is not None and now - self._fed >= self._period_s / 2:
            self._fed = now
            notify("WATCHDOG=1")


def _watchdog_period_s() -> float | None:
    """Seconds between two messages, half of what the watchdog allows; None where this process has no watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 / 2
