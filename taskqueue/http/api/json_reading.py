"""Reads a JSON body strictly: one value in UTF-8, no duplicate keys, no NaN, at most 64 levels deep.

`read_json(b'{"url": 1, "url": 2}')` raises `Problem("malformed-json")` with the fault `#/url is there twice`. What two
programs could understand in two ways is refused here, and so is what another one would choke on later: a lone half of
a surrogate pair, and nesting without end. This module must never know what the value means.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from taskqueue.foundation.json_coders import parser
from taskqueue.http.api.problems import Problem, fault_at

DEPTH_LIMIT = 64
"""Levels of arrays and objects; a text of more would cost every reader behind us its stack."""
CONTAINERS_LIMIT = 250_000
"""Brackets in one text, which in Python cost some 60 bytes each: 15 MiB."""

_BOM = b"\xef\xbb\xbf"


class _TwiceError(Exception):
    """An object has a key twice."""


class _BadConstantError(Exception):
    """`NaN`, `Infinity` or `-Infinity`, which only Python takes for JSON."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError
    return found


def _constant(name: str) -> NoReturn:
    raise _BadConstantError(name)


_parse = parser(object_pairs_hook=_object, parse_constant=_constant)


def read_json(body: bytes) -> Any:
    """The value of `body`. Raises `Problem`: malformed-json, with the line and the column."""
    return parse_json(decode(body))


def decode(body: bytes) -> str:
    """`body` as text, without a byte order mark. Raises `Problem`: malformed-json."""
    try:
        return (body[3:] if body.startswith(_BOM) else body).decode()
    except UnicodeDecodeError as error:
        where = _place(body[: error.start].decode(errors="replace"), error.start, body)
        raise malformed(f"byte {error.start} of the body ({where}) is not UTF-8") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises `Problem`: malformed-json."""
    if not text or text.isspace():
        raise malformed("the body is empty; expected a JSON value")
    brackets = text.count("{") + text.count("[")
    if brackets > CONTAINERS_LIMIT:
        raise malformed(f"the text has more than {CONTAINERS_LIMIT:,} arrays and objects")
    try:
        value = _parse(text)
    except json.JSONDecodeError as error:
        raise malformed(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except _BadConstantError as error:
        raise malformed(f"{error} is no JSON value; write null, or a text") from None
    except _TwiceError:
        pointer = _pointer_to_twice(text)
        raise malformed(f"a key is there twice: {pointer}", pointer) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # the only other one: Python's limit against numbers that take quadratic time
        raise malformed("a number has more than 4,300 digits; send it as a text") from None
    if brackets > DEPTH_LIMIT and _deeper_than(value, DEPTH_LIMIT):
        raise _too_deep()
    if "\\u" in text and _has_lone_surrogate(value):
        raise malformed("a text has one half of a surrogate pair (\\ud800 to \\udfff) without the other")
    return value


def malformed(what: str, pointer: str | None = None) -> Problem:
    """The problem malformed-json; `what` is a phrase, `pointer` the place, where one can be told."""
    errors = [fault_at(pointer, "is there twice")] if pointer is not None else []
    return Problem("malformed-json", f"The body is not JSON as it must be: {what}.", errors)


def escape(key: str) -> str:
    """A key as one segment of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _too_deep() -> Problem:
    return malformed(f"arrays and objects are nested more than {DEPTH_LIMIT} deep")


def _place(before: str, start: int, body: bytes) -> str:
    line = body.count(b"\n", 0, start) + 1
    return f"line {line}, column {len(before) - before.rfind(chr(10))}"


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [each for each in level if type(each) in (dict, list)]
        if not level:
            return False
        level = [child for each in level for child in (each.values() if type(each) is dict else each)]
    return True


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


class _Pairs(list[tuple[str, Any]]):
    """An object that keeps its keys as often as they are there."""


def _pointer_to_twice(text: str) -> str:
    """Where the first key is that its object has twice; `text` has one, and no other fault before it."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    try:
        left: list[tuple[str, Any]] = [("#", decoder.raw_decode(text.lstrip())[0])]
    except (ValueError, RecursionError):  # behind the key there is another fault
        return "#"
    while left:
        pointer, value = left.pop()
        if type(value) is _Pairs:
            seen: set[str] = set()
            for key, child in value:
                if key in seen:
                    return f"{pointer}/{escape(key)}"[:200]
                seen.add(key)
                left.append((f"{pointer}/{escape(key)}", child))
        elif type(value) is list:
            left.extend((f"{pointer}/{index}", child) for index, child in enumerate(value))
    return "#"
