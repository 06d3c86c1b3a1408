"""Packets on unix sockets: whole, bounded, with descriptors; rubbish raises `LinkError` and leaks nothing."""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descriptors import descriptors
from taskqueue.errors import LinkError
from taskqueue.link import packets
from taskqueue.link.packets import INLINE_LIMIT, Link, pair

Ends = tuple[Link, Link]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends of a link."""
    left, right = pair()
    yield left, right
    left.close()
    right.close()


@pytest.fixture(autouse=True)
def no_descriptor_is_leaked() -> Iterator[None]:
    """After each test of this file as many descriptors are open as before."""
    before = descriptors()
    yield
    assert descriptors() == before


def test_small_packets_in_order_and_both_ways(ends: Ends) -> None:
    left, right = ends
    assert left.send(["a", 1], b"body") and left.send(["b", None, 2.5, "\udce4é"], b"\0\xff")
    assert right.receive() == (["a", 1], b"body", ())
    assert right.receive() == (["b", None, 2.5, "\udce4é"], b"\0\xff", ())
    assert right.receive() is None
    assert right.send(["c"])
    assert left.receive(wait=True) == (["c"], b"", ())


@pytest.mark.parametrize("over", [-60, -12, -11, -10, 0, 1, 5_000, 3 * 1024 * 1024])
def test_packets_of_every_size_both_ways(ends: Ends, over: int) -> None:
    left, right = ends
    body = os.urandom(INLINE_LIMIT + over)
    for source, sink in ((left, right), (right, left)):
        assert source.send(["large", 1], body)
        packet = sink.receive()
        assert packet is not None and packet.head == ["large", 1] and packet.body == body and packet.fds == ()


def test_a_large_head_travels_too(ends: Ends) -> None:
    left, right = ends
    head = ["h", "x" * (INLINE_LIMIT * 2)]
    assert left.send(head)
    packet = right.receive()
    assert packet is not None and packet.head == head and packet.body == b""


@pytest.mark.parametrize("size", [10, INLINE_LIMIT * 2])
def test_descriptors_travel_and_are_close_on_exec(ends: Ends, size: int) -> None:
    left, right = ends
    read, write = os.pipe()
    assert left.send(["fds"], b"x" * size, fds=(read, write))
    packet = right.receive()
    assert packet is not None and len(packet.body) == size and len(packet.fds) == 2
    os.write(packet.fds[1], b"through")
    assert os.read(read, 7) == b"through"
    assert not any(os.get_inheritable(fd) for fd in packet.fds)
    for fd in (read, write, *packet.fds):
        os.close(fd)


@pytest.mark.parametrize("size", [100, INLINE_LIMIT - 100, INLINE_LIMIT * 2])
def test_a_full_queue_says_so_and_loses_nothing(ends: Ends, size: int) -> None:
    left, right = ends
    sent = 0
    while left.send([sent], b"x" * size):
        sent += 1
        assert sent < 100_000
    assert sent >= 2, "several packets fit"
    assert left.send([sent], b"x" * size) is False
    for number in range(sent):
        packet = right.receive()
        assert packet is not None and packet.head == [number] and len(packet.body) == size
    assert right.receive() is None, "what was not taken was not half sent"
    assert left.send(["again"])
    assert right.receive() is not None


def test_what_the_reader_has_not_read_is_taken_back_at_its_end(ends: Ends) -> None:
    """The listener holds the worker's end too: each packet goes to one of both, whole."""
    left, right = ends
    same_end = packets.adopt(os.dup(right.fileno()))
    for number in range(4):
        left.send([number], b"x" * (INLINE_LIMIT * 2 if number == 2 else 5))
    assert [right.receive(), same_end.receive()] == [([0], b"xxxxx", ()), ([1], b"xxxxx", ())]
    taken = same_end.receive()
    assert taken is not None and taken.head == [2] and len(taken.body) == INLINE_LIMIT * 2
    assert right.receive() == ([3], b"xxxxx", ())
    assert same_end.receive() is None
    same_end.close()


def test_the_end(ends: Ends) -> None:
    left, right = ends
    left.send(["last"])
    left.close()
    assert right.receive() == (["last"], b"", ())
    for wait in (False, True):
        with pytest.raises(EOFError):
            right.receive(wait=wait)
    with pytest.raises(LinkError):
        right.send(["to nobody"])
    with pytest.raises(LinkError):
        right.send(["to nobody"], b"x" * INLINE_LIMIT * 2, wait=True)


def test_an_end_closed_with_unread_packets_is_an_end(ends: Ends) -> None:
    left, right = ends
    left.send(["never read"])
    right.send(["read"])
    right.close()
    with pytest.raises(EOFError):
        for _ in range(3):
            left.receive()


def test_shutdown_lets_the_reader_finish_first(ends: Ends) -> None:
    left, right = ends
    left.send([1])
    left.shutdown_write()
    assert right.receive() == ([1], b"", ())
    with pytest.raises(EOFError):
        right.receive()
    assert right.send(["still"]), "the other direction is open"
    assert left.receive() == (["still"], b"", ())
    left.shutdown_write()
    right.close()
    left.shutdown_write()


# -- rubbish, as a hostile worker could send it


def raw(end: Link, data: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send a packet that is not ours."""
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    end.sock.sendmsg([data], control)


def framed(kind: int, head: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("!BI", kind, len(head) if size is None else size) + head + body


RUBBISH = {
    "one byte": b"x",
    "short head": b"\0\0\0",
    "unknown kind": framed(9, b"[1]"),
    "memfd without descriptor": framed(1, b"[1]"),
    "not JSON": framed(0, b"{{{"),
    "not UTF-8": framed(0, b'["\xff"]'),
    "object": framed(0, b'{"a":1}'),
    "empty list": framed(0, b"[]"),
    "number": framed(0, b"1"),
    "head longer than all": framed(0, b"[1", size=4_000_000_000),
    "deep": framed(0, b"[" * 40_000),
    "huge number": framed(0, b"[" + b"9" * 10_000 + b"]"),
    "longer than the buffer": framed(0, b"[1]", b"x" * (INLINE_LIMIT + 8192)),
}


@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH)
@pytest.mark.parametrize("with_descriptors", [False, True])
def test_rubbish_raises_link_error_and_the_next_packet_is_read(ends: Ends, data: bytes, with_descriptors: bool) -> None:
    left, right = ends
    read, write = os.pipe()
    # the first is a pipe: a packet that says memfd then names something that cannot be read as one
    raw(left, data, (read, write) if with_descriptors else ())
    os.close(read)
    os.close(write)
    left.send(["next"])
    with pytest.raises(LinkError):
        right.receive()
    assert right.receive() == (["next"], b"", ())


@pytest.mark.parametrize("content", [b"", b"{{{", b"{}", b"[]", b'["\xff"]', b"[" * 40_000])
@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_memfd_of_rubbish(ends: Ends, content: bytes, more: int) -> None:
    left, right = ends
    large = os.memfd_create("test")
    os.write(large, content)
    extra = [os.dup(large) for _ in range(more)]
    raw(left, framed(1, b"", size=len(content)), (large, *extra))
    for fd in (large, *extra):
        os.close(fd)
    with pytest.raises(LinkError):
        right.receive()


def test_a_memfd_beyond_the_limit_is_not_read(ends: Ends) -> None:
    left, right = ends
    large = os.memfd_create("test")
    os.ftruncate(large, packets.PACKET_LIMIT + 1)
    raw(left, framed(1, b"", size=3), (large,))
    os.close(large)
    with pytest.raises(LinkError):
        right.receive()


@pytest.mark.parametrize("what", ["pipe", "socket", "directory", "write only"])
def test_a_memfd_that_is_none(ends: Ends, what: str) -> None:
    left, right = ends
    opened = {
        "pipe": lambda: list(os.pipe()),
        "socket": lambda: [socket.socket(socket.AF_UNIX).detach()],
        "directory": lambda: [os.open("/", os.O_RDONLY)],
        "write only": lambda: [os.open("/dev/null", os.O_WRONLY)],
    }[what]()
    raw(left, framed(1, b"", size=3), (opened[0],))
    for fd in opened:
        os.close(fd)
    with pytest.raises(LinkError):
        right.receive()


def test_more_descriptors_than_a_packet_may_carry(ends: Ends) -> None:
    left, right = ends
    raw(left, framed(0, b"[1]"), tuple([0] * 20))
    with pytest.raises(LinkError):
        right.receive()


# -- what a head can carry

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text() | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(head=st.lists(VALUES, min_size=1, max_size=5), body=st.binary(max_size=500))
def test_round_trip(head: list[Any], body: bytes) -> None:
    left, right = pair()
    try:
        assert left.send(head, body)
        packet = right.receive()
        assert packet is not None and packet.head == head and packet.body == body
    finally:
        left.close()
        right.close()


def test_amqp_values_that_json_lacks_arrive_readable(ends: Ends) -> None:
    left, right = ends
    headers = {"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "price": Decimal("1.50"), "raw": bytearray(b"\0\xff")}
    left.send(["task", headers])
    packet = right.receive()
    assert packet is not None
    assert packet.head == ["task", {"at": "2026-01-02 03:04:05+00:00", "price": "1.50", "raw": b"\0\xff"}]


@pytest.mark.parametrize("coded", ["not hex", "0", "é"])
def test_a_header_that_looks_like_our_own_coding_does_no_harm(ends: Ends, coded: str) -> None:
    """A client's header can hold any table: it must not end the worker that reads it."""
    left, right = ends
    left.send(["task", {"h": {"\0bytes": coded}}])
    packet = right.receive()
    assert packet is not None and json.dumps(packet.head[1]["h"]) == json.dumps({"\0bytes": coded})
