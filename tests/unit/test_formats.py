"""Formats of third parties: each is loaded on its own, and none can fail in a way that ends the dispatcher."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskqueue import workitem
from taskqueue.errors import MalformedWorkitem
from taskqueue.workitem import Routed, route

FORMATS = """
from taskqueue.errors import MalformedWorkitem
from taskqueue.workitem import Routed

def good(body, charset): return Routed("w", body.upper(), None)
def plain(body, charset): return "w", body, "text/plain"
def raises(body, charset): raise KeyError(body)
def nothing(body, charset): return None
def text(body, charset): return Routed("w", body.decode(), None)
def kind(body, charset): return Routed("w", body, 3)
def strange(body, charset): raise MalformedWorkitem("a reason of my own", "not this one")
def own(body, charset): raise MalformedWorkitem("malformed", "no type in it")
def wrong(body, charset): return Routed("no type!", body, None)
"""

ENTRIES = """[taskqueue.workitems]
application/x-bad = no_such_module:f
application/x-worse = third_party_formats:no_such_function
text/plain = third_party_formats:raises
Application/X-Good = third_party_formats:good
"""


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A distribution with formats, some of them broken."""
    site: Path = tmp_path_factory.mktemp("site")
    (site / "third_party_formats.py").write_text(FORMATS)
    info = site / "third_party_formats-1.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: third-party-formats\nVersion: 1\n")
    names = ("plain", "raises", "nothing", "text", "kind", "strange", "own", "wrong")
    lines = [f"application/x-{name} = third_party_formats:{name}" for name in names]
    info.joinpath("entry_points.txt").write_text(ENTRIES + "\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(site)])
        workitem.formats.cache_clear()
        yield
    workitem.formats.cache_clear()


def test_a_broken_one_is_named_in_the_log_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    workitem.formats.cache_clear()
    found = workitem.formats()
    assert {"application/x-good", "application/x-raises", "text/plain"} <= found.keys()
    assert not {"application/x-bad", "application/x-worse"} & found.keys()
    assert caplog.messages == [
        "format left out: content_type=application/x-bad object=no_such_module:f",
        "format left out: content_type=application/x-worse object=third_party_formats:no_such_function",
    ]
    assert all(record.exc_info for record in caplog.records)
    with pytest.raises(MalformedWorkitem) as raised:
        route(b"x", "application/x-bad", None, None)
    assert raised.value.reason == "unknown-format"


def test_a_good_one_is_used_and_a_builtin_cannot_be_replaced() -> None:
    assert route(b"x", "application/x-good; a=b", None, None) == Routed("w", b"X", "application/x-good; a=b")
    assert route(b"x", "application/x-plain", None, None) == Routed("w", b"x", "text/plain")
    assert route(b"w x", "text/plain", None, None) == Routed("w", b"x", "text/plain")


@pytest.mark.parametrize(
    ("name", "what", "in_the_dead_letter"),
    [
        ("raises", "the format application/x-raises failed: KeyError", "secret"),
        ("nothing", "the format application/x-nothing failed: TypeError", ""),
        ("text", "the format application/x-text failed: TypeError", "expected Routed"),
        ("kind", "the format application/x-kind failed: TypeError", "expected Routed"),
        ("strange", "not this one", "a reason of my own"),
        ("own", "no type in it", ""),
        ("wrong", "not a worker type", "no type!"),
    ],
)
def test_whatever_it_does_wrong_makes_a_malformed_workitem(name: str, what: str, in_the_dead_letter: str) -> None:
    with pytest.raises(MalformedWorkitem) as raised:
        route(b"secret", f"application/x-{name}", None, None)
    assert (raised.value.reason, raised.value.what) == ("malformed", what), "a body is never logged"
    assert in_the_dead_letter in raised.value.detail
