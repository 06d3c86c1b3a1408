"""Hostile messages: what any client that may publish could send to `taskqueue`, to a worker queue, or to the ladder.

Hypothesis draws properties, headers and bodies apart, and a seeded generator pairs them: as many different cases as
are wanted, at little more cost than publishing them. A `Case` is bytes all through, so that one that has found
something is kept as it was (`tests/corpus`, a JSON object a line) whatever becomes of these strategies. This module
must never import taskqueue.
"""

from __future__ import annotations

import base64
import json
import random
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from raw_amqp import content_header, long, short, table

T = TypeVar("T")
Bytes = SearchStrategy[bytes]
Fields = tuple[tuple[bytes, bytes], ...]

CORPUS = Path(__file__).resolve().parents[1] / "corpus" / "hostile.jsonl"
CANARY = "CANARY-4711"
"""In bodies and in values of headers, so that it is seen where it is logged."""
WORKER = "fuzz"
"""The worker type that is served."""
REPLIES = "fuzz_replies"
"""A queue for a `reply_to` to name."""
MAX_BODY = 1 << 20
"""What `max_body` is to be: what is over it should not cost much."""
LARGE_UNTIL = 20_000
"""Large bodies are among the first cases only: what they leave behind in a heap must not be taken for growth."""


class Case(NamedTuple):
    """One message, without what tells it from others: see `numbered`."""

    routing_key: str
    properties: Mapping[str, bytes]
    """Encoded values by name; `headers` only where they are not a well-formed table."""
    headers: Fields
    """Names and encoded values."""
    body: bytes
    wild: bool = False
    """A broker may close the connection for it: to be published alone."""


def _mostly(usual: SearchStrategy[T], now_and_then: SearchStrategy[T]) -> SearchStrategy[T]:
    return st.sampled_from([usual] * 7 + [now_and_then]).flatmap(lambda chosen: chosen)


# -- header values, one strategy for each type of AMQP 0-9-1 as RabbitMQ has it


def _fixed(kind: bytes, size: int) -> Bytes:
    return st.binary(min_size=size, max_size=size).map(lambda value: kind + value)


def _text(most: int = 40) -> Bytes:
    return st.text(max_size=most).map(lambda text: text.encode("utf-8", "surrogatepass"))


_STRINGS = _text() | st.binary(max_size=40) | st.just(CANARY.encode())
_SCALARS: Bytes = st.one_of(
    st.just(b"V"),
    st.one_of([_fixed(kind, size) for kind, size in zip((b"t", b"b", b"B"), (1, 1, 1), strict=True)]),
    st.one_of([_fixed(kind, 2) for kind in (b"s", b"u")]),
    st.one_of([_fixed(kind, 4) for kind in (b"I", b"i")]),
    st.one_of([_fixed(kind, 8) for kind in (b"l", b"L", b"T")]),
    _fixed(b"D", 5),
    # RabbitMQ closes the connection for the others
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: b"f" + struct.pack(">f", value)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda value: b"d" + struct.pack(">d", value)),
    _STRINGS.map(lambda value: b"S" + long(value)),
    _STRINGS.map(lambda value: b"x" + long(value)),
)
_NAMES: Bytes = st.one_of(
    st.sampled_from(
        [
            b"worker_type", b"x-delay", b"x-attempt", b"x-crashes", b"x-delay-target", b"x-delay-expiration",
            b"x-death", b"x-first-death-queue", b"x-dead-reason", b"x-dead-detail", b"x-delivery-count", b"task_id",
            b"status", b"\0bytes", b"", b"x" * 255, b"\xff" * 255, b"a\nb", b"cc",
        ]
    ),
    st.binary(max_size=12),
)  # fmt: skip


def nested(depth: int, arrays: bool) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"A" + long(value) if arrays else b"F" + table([(b"t", value)])
    return value


_DEPTHS = st.integers(1, 150) | st.integers(300, 1100)
_VALUES: Bytes = st.one_of(
    st.recursive(
        _SCALARS,
        lambda inner: (
            st.lists(inner, max_size=4).map(lambda values: b"A" + long(b"".join(values)))
            | st.lists(st.tuples(_NAMES, inner), max_size=4).map(lambda fields: b"F" + table(fields))
        ),
        max_leaves=6,
    ),
    _mostly(_SCALARS, st.builds(nested, _DEPTHS, st.booleans())),
)

# -- worker types

_GOOD_TYPES = (
    WORKER, "taskqueue", "taskqueue_dead", "taskqueue_delay_step", "taskqueue_delay_04", "worker_fuzz", "amq.direct",
    "amq.gen-JzTY20BRgKO-HjmUJj0wLg", "amq.rabbitmq.reply-to", "results", "0", "a" * 201,
)  # fmt: skip
"""Names that are worker types as the contract has it, however they look: few, since each is a queue."""
_BAD_TYPES = (
    "", ".", "..", "-", "_fuzz", "../x", "fuzz/x", "fuzz\0", "fuzz\n", "é", "*", "#", "\uff46uzz", "a" * 202, "a" * 247,
    "a" * 248, "a" * 249, "a" * 255, "a" * 256, f"{CANARY} ",
)  # fmt: skip
_TYPES = _mostly(st.just(WORKER), st.sampled_from(_GOOD_TYPES + _BAD_TYPES))


def _string(text: str) -> bytes:
    return b"S" + long(text.encode())


HEADERS: SearchStrategy[Fields] = st.builds(
    lambda named, delay, more: (*named, *delay, *more),
    st.just(()) | _TYPES.map(lambda name: ((b"worker_type", _string(name)),)),
    _mostly(
        st.just(()),
        (st.integers(-1, 60) | st.sampled_from([2**31 - 1, 2**39, 2**63 - 1, -(2**63)])).map(
            lambda value: ((b"x-delay", b"l" + struct.pack(">q", value)),)
        ),
    ),
    st.lists(st.tuples(_NAMES, _VALUES), max_size=4),
)


def _mutated(fields: Fields, at: float, what: bytes, cut: bool) -> bytes:
    """A table that is none, or another: what is at a place in it is replaced, and all behind it cut off."""
    whole = table(fields)
    place = int(at * len(whole))
    return whole[:place] + what + (b"" if cut else whole[place + len(what) :])


# -- properties


def _short(value: bytes) -> bytes:
    return short(value[:255])


_SHORTS: Bytes = st.one_of(
    _text(255), st.binary(max_size=255), st.sampled_from([b"", b"\xff" * 255, b"x" * 255, b"\0", b"a\nb"])
).map(_short)


def _some(*values: str | bytes) -> Bytes:
    return st.sampled_from([_short(value.encode() if isinstance(value, str) else value) for value in values])


_DIRECT = "amq.rabbitmq.reply-to.g1h2AAdyZXBseUAxAAAFAAAAAAAAAAAB.k"
"""As RabbitMQ names a client that waits for a direct reply; a publish to one that is unknown ends a connection."""

_CONTENT_TYPES = _SHORTS | _some(
    "text/plain", "application/json", "application/json", "application/octet-stream", "image/png", "TEXT/PLAIN ; x=y",
    "text/plain; charset=utf-16", "text/plain; charset=utf-7", "text/plain; charset=rot13", "text/plain; charset=idna",
    "text/plain; charset=unicode_escape", "text/plain; charset=undefined", "text/plain; charset=a\0b", ";", "",
    "application/json; charset=latin-1", "application/json;charset=utf-32", "text/plain; charset=" + "x" * 200,
)  # fmt: skip
PROPERTIES: SearchStrategy[dict[str, bytes]] = st.builds(
    dict,
    st.lists(
        st.one_of(
            _CONTENT_TYPES.map(lambda value: ("content_type", value)),
            _some("application/json", "text/plain").map(lambda value: ("content_type", value)),
            _some("gzip", "utf-8", "UTF-8", "identity", "\0", b"\xff").map(lambda value: ("content_encoding", value)),
            st.sampled_from([b"\1", b"\2"]).map(lambda value: ("delivery_mode", value)),
            st.binary(min_size=1, max_size=1).map(lambda value: ("priority", value)),
            _SHORTS.map(lambda value: ("correlation_id", value)),
            _some(
                REPLIES, "nowhere", "taskqueue", "worker_fuzz", "taskqueue_dead", "amq.rabbitmq.reply-to.x", _DIRECT,
                "", b"\xff", b"\xff" * 255, b"x" * 255, "a\nb",
            ).map(lambda value: ("reply_to", value)),
            _some("3600000", "4294967295").map(lambda value: ("expiration", value)),
            _SHORTS.map(lambda value: ("message_id", value)),
            st.binary(min_size=8, max_size=8).map(lambda value: ("timestamp", value)),
            _SHORTS.map(lambda value: ("type", value)),
            _SHORTS.map(lambda value: ("cluster_id", value)),
            st.just(("user_id", short(b"guest"))),
            st.just(("unused", b"")),
        ),
        max_size=4,
    ),
)  # fmt: skip
_WILD: SearchStrategy[dict[str, bytes]] = st.one_of(
    st.builds(
        _mutated, HEADERS, st.floats(0, 1), st.binary(max_size=4) | st.sampled_from([b"Z", b"U", b"\xff" * 4]),
        st.booleans(),
    ).map(lambda mutated: {"headers": mutated}),
    _some("-1", "", "abc", "1e3", " 1", "99999999999999999999", b"\xff").map(lambda value: {"expiration": value}),
    st.sampled_from([b"\0", b"\3", b"\xff"]).map(lambda value: {"delivery_mode": value}),
    _some("root", "", b"\xff").map(lambda value: {"user_id": value}),
    _some("amq.rabbitmq.reply-to").map(lambda value: {"reply_to": value}),
    st.builds(
        lambda name, value: {"headers": table([(name, value)])}, st.sampled_from([b"CC", b"BCC"]),
        _SCALARS | st.just(b"A" + long(_string("nowhere"))),
    ),
)  # fmt: skip

# -- bodies: JSON as text, since no encoder would write what is wanted

_GOOD_LEAVES = st.text(max_size=10).map(json.dumps) | st.sampled_from(
    [
        "null", "true", "0", "-0", "1.5e-400", "9" * 400, '""', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"é"',
        f'"{CANARY}"', "[]", "{}",
    ]
)  # fmt: skip
_BAD_LEAVES = st.sampled_from(
    ["1e999", "NaN", "-Infinity", "9" * 5000, '"\0"', '"\ud800"', "01", "'x'", "1,", f"{CANARY}", '"\\x"', "\ufeff1"]
)
_LEAVES = _mostly(_GOOD_LEAVES, _BAD_LEAVES)
_KEYS = st.sampled_from(["worker_type", "workitem", "fields", "params", "error", "trace", CANARY, "a", "a", "\\ud800"])


def _object(fields: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{name}": {value}' for name, value in fields) + "}"


_JSON: SearchStrategy[str] = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda values: f"[{', '.join(values)}]")
        | st.lists(st.tuples(_KEYS, inner), max_size=4).map(_object)
    ),
    max_leaves=8,
) | st.builds(
    lambda depth, left, right: left * depth + right * depth,
    st.integers(1, 200) | st.integers(930, 1010) | st.just(5000),
    st.sampled_from(["[", '{"a":']),
    st.sampled_from(["]", "}", "1]", ""]),
)
_SHAPES = (
    '{{"worker_type": {type}, "workitem": {value}}}', '{{"worker_type": {type}, "value": {value}}}',
    '{{"fields": {{"params": {{"worker_type": {type}}}, "x": {value}}}}}', "{value}",
    '{{"worker_type": {value}, "worker_type": {type}, "workitem": 1, "workitem": {value}}}',
    '\ufeff{{"worker_type": {type}, "workitem": {value}}}', '{{"worker_type": {type}, "workitem": {value}}} {type}',
)  # fmt: skip


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf-") and encoding != "utf-7" else "ignore")


_ENCODINGS = st.sampled_from(["utf-8"] * 15 + ["utf-16", "utf-32-be", "utf-7", "latin-1", "cp500"])
BODIES: Bytes = st.one_of(
    st.builds(
        lambda shape, name, value, encoding: _encoded(shape.format(type=json.dumps(name), value=value), encoding),
        st.sampled_from(_SHAPES), _TYPES, _JSON, _ENCODINGS,
    ),
    st.builds(
        lambda name, between, rest, encoding: _encoded(f"{name}{between}{CANARY} {rest}", encoding),
        _TYPES, st.sampled_from([" ", "\n", "\t", "  ", "\0", "\u2003"]), st.text(max_size=60), _ENCODINGS,
    ),
    st.binary(max_size=300).map(lambda noise: noise + CANARY.encode()),
    st.binary(max_size=30)
    | st.sampled_from([b"", b" ", b"{", b"\xff\xfe", b"\xef\xbb\xbf", b"fuzz", b"fuzz " + b"\xed\xa0\x80"]),
)  # fmt: skip


_ROOM = 131_072 - 8
"""Bytes of a content header that are RabbitMQ's default for one frame."""


def _padded(case: Case, chance: random.Random) -> Case:
    """With headers that nearly fill a frame, or no longer fit in one."""
    used = len(content_header(numbered(case, 0))) + 12 + len(b"\x03padS....")
    padding = (CANARY * 12_000).encode()[: max(0, _ROOM - used - chance.choice((-9, -8, 0, 1, 30, 60, 200, 9000)))]
    return case._replace(headers=(*case.headers, (b"pad", b"S" + long(padding))), wild=True)


def _large(chance: random.Random) -> bytes:
    """A body around `max_body`, or JSON that is much larger in memory than as text."""
    size = chance.choice((MAX_BODY, MAX_BODY + 1, MAX_BODY * 3 // 2))
    inner = chance.choice((b"x", b"[],", b"{},", b'"\\ud800",', b"1,", b"\0"))
    head = chance.choice((b"fuzz ", b'{"worker_type": "fuzz", "workitem": [', b"[", b""))
    body = (head + CANARY.encode() + inner * (size // len(inner)))[:size]
    return body[:-3] + b"1]}" if b"workitem" in head else body


# -- cases

_ROUTES = ("taskqueue",) * 12 + (f"worker_{WORKER}",) * 7 + ("taskqueue_delay_step",)


def drawn(strategy: SearchStrategy[T], count: int, number: int) -> list[T]:
    """`count` examples, the same for the same `number` and version of hypothesis."""
    found: list[T] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: T) -> None:
        found.append(value)

    collect()
    return found


def cases(count: int, number: int) -> Iterator[Case]:
    """`count` cases of the seed `number`."""
    chance = random.Random(number)
    pool = max(100, min(1000, count // 20))
    headers, properties = drawn(HEADERS, pool, number), drawn(PROPERTIES, pool, number)
    wild, bodies = drawn(_WILD, pool // 4, number), drawn(BODIES, pool, number)
    for done in range(count):
        large = done < LARGE_UNTIL and chance.random() < 0.004
        case = Case(
            chance.choice(_ROUTES),
            chance.choice(properties),
            chance.choice(headers),
            _large(chance) if large else chance.choice(bodies),
        )
        if chance.random() < 0.03:
            case = case._replace(properties={**case.properties, **chance.choice(wild)}, wild=True)
        elif chance.random() < 0.001:
            case = _padded(case, chance)
        yield case


def numbered(case: Case, number: int) -> dict[str, bytes]:
    """The properties of `case` as one of many: `message_id` and `app_id` end with its number."""
    mark = b"#%08d" % number
    properties = {"headers": table(case.headers), **case.properties}
    kept = case.properties.get("message_id", b"\0")[1:]
    return {**properties, "message_id": short(kept[: 255 - len(mark)] + mark), "app_id": short(mark)}


def simpler(case: Case) -> Iterator[Case]:
    """What is left of `case` without one thing, the largest first: to find out what of it matters."""
    body = case.body
    for size in (len(body) // 2, len(body) // 4, len(body) // 8, 8, 1):
        if 0 < size < len(body):
            yield case._replace(body=body[:-size])
            yield case._replace(body=body[size:])
    for name in case.properties:
        yield case._replace(properties={key: value for key, value in case.properties.items() if key != name})
    for number in range(len(case.headers)):
        yield case._replace(headers=case.headers[:number] + case.headers[number + 1 :])


# -- the corpus


def to_line(case: Case, why: str) -> str:
    """One line of the corpus; `why` is for people."""
    return json.dumps(
        {
            "why": why,
            "routing_key": case.routing_key,
            "wild": case.wild,
            "properties": {name: _to_text(value) for name, value in case.properties.items()},
            "headers": [[_to_text(name), _to_text(value)] for name, value in case.headers],
            "body": _to_text(case.body),
        }
    )


def corpus() -> list[tuple[str, Case]]:
    """What was found, or thought of, before: why, and the case."""
    kept = []
    for line in CORPUS.read_text().splitlines():
        held: dict[str, Any] = json.loads(line)
        case = Case(
            held["routing_key"],
            {name: _from_text(value) for name, value in held["properties"].items()},
            tuple((_from_text(name), _from_text(value)) for name, value in held["headers"]),
            _from_text(held["body"]),
            held["wild"],
        )
        kept.append((held["why"], case))
    return kept


def _to_text(value: bytes) -> str | dict[str, str]:
    text = value.decode("latin-1")
    if len(text) > 500:
        return {"zlib": base64.b64encode(zlib.compress(value, 9)).decode()}
    return text if text.isascii() and text.isprintable() else {"base64": base64.b64encode(value).decode()}


def _from_text(value: str | dict[str, str]) -> bytes:
    match value:
        case {"zlib": packed}:
            return zlib.decompress(base64.b64decode(packed))
        case {"base64": packed}:
            return base64.b64decode(packed)
        case _:
            return str(value).encode("ascii")
