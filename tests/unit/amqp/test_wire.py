"""Between pika's types and ours: whatever comes can be sent on, or says why not. Without a broker."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pika.frame
import pytest
from hypothesis import given, settings

from hostile import CANARY, HEADERS, PROPERTIES, Case, nested, numbered
from raw_amqp import content_header, long, short, table
from taskqueue.amqp.wire import NESTING_LIMIT, Undecodable, from_pika, header_frame, to_pika
from taskqueue.errors import MalformedWorkitem
from taskqueue.protocol.dead_letters import DeadReason, dead_letter, reduced
from taskqueue.protocol.delays import delay_ms, off_ladder, on_ladder
from taskqueue.protocol.properties import Properties, attempts, forwarded, handed_back

UNSIGNED = pika.__version__.startswith(("1.2.", "1.3."))
"""Debian's: they read `l`, a number below -2**31, without its sign, where it cannot be told from a large float's."""


def decoded(payload: bytes) -> Any:
    """pika's properties of a content header, as a connection would have them."""
    frame = struct.pack(">BHIHHQ", 2, 1, 12 + len(payload), 60, 0, 0) + payload + b"\xce"
    try:
        consumed, header = pika.frame.decode_frame(frame)
    except Exception:
        found = header_frame(frame)
        assert found is not None
        consumed, header = found
    assert consumed == len(frame)
    return header.properties


def came(**fields: bytes) -> tuple[Properties, str]:
    """Ours of properties with encoded values."""
    return from_pika(decoded(content_header(fields)))


def headers(*fields: tuple[bytes, bytes]) -> tuple[Properties, str]:
    """Ours of properties with these headers."""
    return came(headers=table(fields), message_id=short(b"m"), content_type=short(b"a/b"))


@settings(max_examples=500)
@given(fields=HEADERS, properties=PROPERTIES)
def test_what_came_can_be_sent_on_in_every_way(fields: Any, properties: dict[str, bytes]) -> None:
    ours, fault = from_pika(decoded(content_header(numbered(Case("", properties, fields, b""), 1))))
    fault.encode()
    assert len(fault) < 1000 and CANARY not in fault
    letter = dead_letter(ours, DeadReason.MALFORMED, "why" * 5000, queue="q", at_s=1.0, host="h")
    forms = [ours, forwarded(ours, ours.content_type), handed_back(ours, 3, 1), letter, reduced(letter)]
    step = on_ladder(forms[1], "worker_w", 16, 1_700_000_000_000)
    forms += [step, off_ladder(step), off_ladder(ours)]
    for form in forms:
        again, faults = from_pika(decoded(b"".join(to_pika(form).encode())))
        assert again.message_id == form.message_id
        if faults and UNSIGNED:
            assert faults == "headers: a number beyond 64 bits; lost"
            continue
        assert not faults
        assert (again.headers or {}).keys() == (form.headers or {}).keys()
    assert attempts(ours) >= (0, 0)
    try:
        delay_ms(ours)
    except MalformedWorkitem as error:
        assert error.reason == "malformed" and CANARY not in error.what and len(error.detail) < 500


def test_what_is_text_and_what_is_not() -> None:
    ours, fault = came(message_id=short(b"\xff\n"), type=short(b"\0"), reply_to=short("ä".encode()), priority=b"\xff")
    assert (ours.message_id, ours.type, ours.reply_to, ours.priority, fault) == ("\\xff\n", "\0", "ä", 255, "")


@pytest.mark.parametrize("name", ["message_id", "content_type", "reply_to", "correlation_id", "type", "app_id"])
def test_what_is_too_long_once_it_is_text_is_missed_and_said(name: str) -> None:
    ours, fault = came(**{"message_id": short(b"m"), "app_id": short(b"a"), name: short(b"\xff" * 64)})
    assert getattr(ours, name) is None and name in fault
    assert (ours.message_id if name != "message_id" else ours.app_id) in {"m", "a"}, "the others are there"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"d" + struct.pack(">d", 1e300), "64 bits"),
        (b"A" + long(b"d" + struct.pack(">d", -1e30)), "64 bits"),
        (nested(NESTING_LIMIT + 1, True), "deeper"),
        (nested(NESTING_LIMIT + 1, False), "deeper"),
        (b"F" + table([(b"\xff" * 64, b"V")]), "UTF-8"),
    ],
)
def test_headers_that_cannot_be_sent_on_are_missed_and_said(value: bytes, says: str) -> None:
    ours, fault = headers((b"a", b"V"), (b"h", value))
    assert (ours.headers, ours.message_id, ours.content_type) == (None, "m", "a/b")
    assert fault.startswith("headers: ") and says in fault


@pytest.mark.parametrize("depth", [1, NESTING_LIMIT])
@pytest.mark.parametrize("arrays", [True, False])
def test_headers_are_kept_to_a_depth(depth: int, arrays: bool) -> None:
    ours, fault = headers((b"h", nested(depth, arrays)))
    assert not fault and ours.headers


def test_header_values() -> None:
    ours, fault = headers(
        (b"l", b"l" + struct.pack(">q", -(2**63))),
        (b"D", b"D\x02\x00\x00\x00\x96"),
        (b"T", b"T" + struct.pack(">Q", 0)),
        (b"x", b"x" + long(b"\xff")),
        (b"S", b"S" + long(b"\xff")),
    )
    if UNSIGNED:
        return
    assert not fault
    assert ours.headers == {
        "l": -(2**63), "D": Decimal("1.50"), "T": datetime(1970, 1, 1, tzinfo=UTC), "x": b"\xff", "S": b"\xff",
    }  # fmt: skip


@pytest.mark.parametrize("value", [b"T" + b"\xff" * 8, b"Z", b"f\x7f\xc0\x00\x00", nested(2000, True)])
def test_what_pika_cannot_read_is_missed_as_a_whole(value: bytes) -> None:
    payload = content_header({"headers": table([(b"h", value)]), "message_id": short(b"m")})
    properties = decoded(payload)
    assert isinstance(properties, Undecodable)
    ours, fault = from_pika(properties)
    assert ours == Properties() and "cannot be decoded" in fault
