"""The sockets of a front: `host:port`, `[::1]:8088` or `unix:/path`, opened before anything else is done.

A port that is taken, or a path that is no directory, is said in one line, and the front ends with status 1. A unix
socket is 0660 and of the group taskqueue; one that a dead front left is replaced.
"""

from __future__ import annotations

import grp
import os
import socket
from contextlib import suppress
from pathlib import Path

from taskqueue.errors import DaemonError

_BACKLOG = 1024
_GROUP = "taskqueue"


def open_sockets(listen: tuple[str, ...]) -> list[socket.socket]:
    """A listening socket for each of `listen`, or more where a name has several addresses. Raises `DaemonError`."""
    opened: list[socket.socket] = []
    try:
        for each in listen:
            try:
                opened += [_unix(Path(each[5:]))] if each.startswith("unix:") else _tcp(each)
            except OSError as error:
                raise DaemonError(f"cannot listen on {each}: {_reason(error)}") from None
    except DaemonError:
        close_sockets(opened)
        raise
    return opened


def close_sockets(sockets: list[socket.socket], listen: tuple[str, ...] = ()) -> None:
    """Close them, and remove the names of unix sockets: of those that are open, and, for a server that has closed its
    own, of those that `listen` names."""
    names = {each.removeprefix("unix:") for each in listen if each.startswith("unix:")}
    for sock in sockets:
        if sock.family == socket.AF_UNIX and sock.fileno() != -1:
            names.add(sock.getsockname())
        sock.close()
    for name in filter(None, names):
        with suppress(OSError):
            Path(name).unlink()


def names_of(sockets: list[socket.socket]) -> list[str]:
    """What each listens on, as people write it."""
    names = []
    for sock in sockets:
        address = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            names.append(f"unix:{address}")
        elif sock.family == socket.AF_INET6:
            names.append(f"http://[{address[0]}]:{address[1]}")
        else:
            names.append(f"http://{address[0]}:{address[1]}")
    return names


def _tcp(listen: str) -> list[socket.socket]:
    host, _, port = listen.rpartition(":")
    infos = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened = []
    for family, kind, protocol, _name, address in dict.fromkeys(infos):
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        opened.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind(address)
        except OSError:
            close_sockets(opened)
            raise
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    return opened


def _unix(path: Path) -> socket.socket:
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
                raise DaemonError(f"cannot listen on unix:{path}: another process does")
            except ConnectionRefusedError:
                path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o117)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(_GROUP).gr_gid)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    return error.strerror or str(error)
