"""Messages to the service manager (systemd): ready, reloading, stopping, and its watchdog. Without one, nothing."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

from taskqueue.foundation.loop import Loop

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `state` to the service manager where there is one (sd_notify(3)); never fails."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)
    except OSError as error:
        log.warning("service manager not told: state=%s reason=%s", state, error.strerror)


def reloading(reload: Callable[[], None]) -> Callable[[], None]:
    """`reload`, which the service manager is told of before and after."""

    def told() -> None:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        reload()
        notify("READY=1")

    return told


def stopping(patience_s: float) -> None:
    """Tell the service manager that we stop, and how long that may take."""
    notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(patience_s * 1e6)}")


def feed_watchdog(loop: Loop) -> None:
    """Feed the service manager's watchdog for as long as the loop turns; nothing where it has none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    period_s = int(microseconds) / 1e6 / 2

    def feed() -> None:
        notify("WATCHDOG=1")
        loop.call_later(period_s, feed)

    feed()
