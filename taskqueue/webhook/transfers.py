"""libcurl on asyncio: one multi handle; its sockets stand in one epoll, which the event loop watches.

1. `perform` takes an idle easy handle, gives it the request and adds it to the multi. libcurl asks for a timer of 0 ms.
2. The timer fires: libcurl takes a connection of the origin's from its pool, or resolves the name in a thread and opens
   a socket: `Handle._open` judges the address there, whatever the name was and however often it changes.
3. libcurl tells which sockets to watch (`_on_socket`), and is told what became of them, until the transfer is over.
   An epoll of our own costs some 5 us a request less than `add_reader` and `remove_reader` for each socket.
4. `perform` gives an `Exchange`: an answer, or libcurl's error.

A pooled connection was judged when it was opened: so each policy has `Transfers`, and a pool, of its own. This module
must never raise for what a target does.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from pathlib import Path
from typing import Any

import pycurl

from taskqueue.webhook.exchange import Exchange, Handle, Judge, Sent

_IDLE_CONNECTIONS = 200
"""Connections that the pool keeps open."""
_BATCH = 64
"""Sockets that are looked after before the event loop has its turn."""
_EVENTS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
_CA_FILE = "/etc/ssl/certs/ca-certificates.crt"


class Transfers:
    """All requests under one policy. It belongs to the event loop in which it was made."""

    def __init__(self, judge: Judge, *, ca_file: str | None = None) -> None:
        self._judge = judge
        self._ca_file = ca_file or (_CA_FILE if Path(_CA_FILE).exists() else None)
        self._loop = asyncio.get_running_loop()
        self._idle: list[Handle] = []
        self._busy: dict[Any, Handle] = {}
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._watched: dict[int, int] = {}
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._on_epoll)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, _IDLE_CONNECTIONS)

    def close(self) -> None:
        """Leave the event loop. The multi handle goes with the process: its end may wait for a resolver's thread."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()

    async def perform(self, sent: Sent) -> Exchange:
        """Make one request. When the caller is cancelled, its connection is closed."""
        handle = self._idle.pop() if self._idle else Handle(self._judge, self._ca_file)
        handle.ended = self._loop.create_future()
        handle.load(sent)
        self._busy[handle.curl] = handle
        self._multi.add_handle(handle.curl)
        try:
            error, message = await handle.ended
            return handle.exchange(error, message)
        finally:
            if self._busy.pop(handle.curl, None) is not None:
                self._multi.remove_handle(handle.curl)
            self._idle.append(handle)

    def _on_timer(self, delay_ms: int) -> None:
        """Call libcurl in `delay_ms`; -1: not any more. It sets two timers for each request: one that would fire too
        early is left, and set anew when it fires."""
        self._due = None
        if delay_ms == 0:
            if self._soon is None:
                self._soon = self._loop.call_soon(self._on_soon)
        elif delay_ms > 0:
            self._due = self._loop.time() + delay_ms / 1000
            if self._timer is not None and self._timer.when() > self._due:
                self._timer.cancel()
                self._timer = None
            if self._timer is None:
                self._timer = self._loop.call_at(self._due, self._on_time)

    def _on_soon(self) -> None:
        self._soon = None
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _on_time(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._on_time)
        else:
            self._due = None
            self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _on_socket(self, wanted: int, descriptor: int, multi: object, data: object) -> None:
        """Watch a socket as libcurl wants it: `POLL_IN`, `POLL_OUT`, both, or `POLL_REMOVE`."""
        if wanted == pycurl.POLL_REMOVE:
            if self._watched.pop(descriptor, None) is not None:
                with suppress(OSError):  # a descriptor that is closed has left the epoll by itself
                    self._epoll.unregister(descriptor)
            return
        events = _EVENTS[wanted]
        if descriptor in self._watched:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._watched[descriptor] = events

    def _on_epoll(self) -> None:
        for descriptor, events in self._epoll.poll(0, _BATCH):
            if descriptor in self._watched:  # libcurl may have dropped it for an earlier one of this batch
                happened = pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0
                self._act(descriptor, happened | (pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0))

    def _act(self, descriptor: int, event: int) -> None:
        """Tell libcurl what happened; wake those whose transfer is over."""
        running = self._multi.socket_action(descriptor, event)[1]
        while running < len(self._busy):
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._end(curl, 0, "")
            for curl, error, message in failed:
                self._end(curl, error, message)
            if not left:
                break

    def _end(self, curl: Any, error: int, message: str) -> None:
        self._multi.remove_handle(curl)
        ended = self._busy.pop(curl).ended
        if not ended.done():
            ended.set_result((error, message))
