"""Discovery of plugins from entry-point metadata: without an import, and changed when what is installed changes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from taskqueue import plugins
from taskqueue.errors import PluginError
from taskqueue.plugins import Plugin
from taskqueue.worker.loading import load_plugin

Caught = pytest.LogCaptureFixture


class Site:
    """A directory on sys.path in which distributions are installed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(
        self,
        name: str,
        entries: str,
        *,
        version: str = "1.0",
        record: str | None = "a.py,sha256=1,1\n",
        source: str = "raise AssertionError('a plugin was imported')\n",
        module: str | None = None,
        metadata: str = "",
    ) -> None:
        """Write NAME-VERSION.dist-info as pip does, and a module that must not be imported."""
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
        (info / "entry_points.txt").write_text(entries)
        if record is not None:
            (info / "RECORD").write_text(record)
        (self.path / f"{module or name.replace('-', '_')}.py").write_text(source)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty directory, first on sys.path."""
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    return Site(path)


def entry(*lines: str) -> str:
    return "[worker.plugins]\n" + "".join(f"{line}\n" for line in lines)


def found() -> dict[str, Plugin]:
    """Plugins of this test; the host may have others."""
    return {name: plugin for name, plugin in plugins.installed().items() if plugin.distribution.startswith("tq-")}


def test_finds_what_is_installed_without_importing_it(site: Site) -> None:
    site.install(
        "tq-one", entry("b = tq_one:Worker.factory", "a = tq_one:make") + "[console_scripts]\nc = tq_one:main\n"
    )
    assert list(found()) == ["a", "b"], "sorted, and only our group"
    plugin = found()["b"]
    assert (plugin.worker_type, plugin.entry_value, plugin.distribution, plugin.version) == (
        "b", "tq_one:Worker.factory", "tq-one", "1.0",
    )  # fmt: skip
    assert "tq_one" not in sys.modules


def test_a_plugin_that_appears_or_goes_is_seen_at_the_next_call(site: Site) -> None:
    assert found() == {}
    site.install("tq-late", entry("late = tq_late:W"))
    assert list(found()) == ["late"]
    for path in (site.path / "tq_late-1.0.dist-info").iterdir():
        path.unlink()
    (site.path / "tq_late-1.0.dist-info").rmdir()
    assert found() == {}


@pytest.mark.parametrize("name", ["a/b", "-a", "ä", "a" * 202])
def test_a_bad_name_is_left_out_with_one_line(site: Site, caplog: Caught, name: str) -> None:
    site.install("tq-bad", entry(f"{name} = tq_bad:W", "good = tq_bad:W"))
    with caplog.at_level(logging.ERROR, "taskqueue.plugins"):
        assert list(found()) == ["good"]
    assert len(caplog.records) == 1 and "tq-bad" in caplog.text


def test_a_name_claimed_twice_goes_to_the_first_on_the_path(
    site: Site, caplog: Caught, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("tq-second", entry("w = tq_second:W", "other = tq_second:W"))
    first = tmp_path / "first"
    first.mkdir()
    monkeypatch.syspath_prepend(str(first))
    Site(first).install("tq-first", entry("w = tq_first:W"))
    with caplog.at_level(logging.ERROR, "taskqueue.plugins"):
        plugins_found = found()
    assert plugins_found["w"].distribution == "tq-first"
    assert plugins_found["other"].distribution == "tq-second", "its other plugins are not punished"
    (record,) = caplog.records
    assert "tq-first" in record.getMessage() and "tq-second" in record.getMessage()


def test_a_distribution_shadowed_on_the_path_is_not_looked_at(
    site: Site, caplog: Caught, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("tq-dist", entry("w = tq_dist:Old", "gone = tq_dist:Old"), version="1.0")
    first = tmp_path / "first"
    first.mkdir()
    monkeypatch.syspath_prepend(str(first))
    Site(first).install("tq-dist", entry("w = tq_dist:New"), version="2.0")
    with caplog.at_level(logging.ERROR, "taskqueue.plugins"):
        assert {name: plugin.version for name, plugin in found().items()} == {"w": "2.0"}
    assert not caplog.records


def test_the_fingerprint_changes_with_version_entry_and_files(site: Site, tmp_path: Path) -> None:
    prints = set()
    variants: list[tuple[str, str, str | None]] = [
        ("1.0", "tq_p:W", "a.py,sha256=1,1\n"),
        ("1.1", "tq_p:W", "a.py,sha256=1,1\n"),
        ("1.0", "tq_p:W", "a.py,sha256=2,1\n"),
        ("1.0", "tq_p:V", "a.py,sha256=1,1\n"),
        ("1.0", "tq_p:W", None),
    ]
    for number, (version, value, record) in enumerate(variants):
        place = Site(tmp_path / str(number))
        place.path.mkdir()
        place.install("tq-p", entry(f"w = {value}"), version=version, record=record)
        sys.path.insert(0, str(place.path))
        try:
            prints.add(found()["w"].fingerprint)
            assert found()["w"].fingerprint in prints, "the same twice"
        finally:
            sys.path.remove(str(place.path))
    assert len(prints) == len(variants)


EXTRAS = """Requires-Dist: always-there-not
Requires-Dist: TQ_Needed[c]>=2; extra == "Http"
Requires-Dist: tq-other ; extra == 'other'
Requires-Dist: tq-new; python_version < "3" and extra == "http"
"""


def test_a_plugin_whose_extra_is_not_installed_is_left_out_quietly(site: Site, caplog: Caught) -> None:
    entries = entry("web = tq_web:W [http]", "both = tq_web:W.factory [http,other]", "plain = tq_web:W")
    site.install("tq-web", entries, metadata=EXTRAS)
    with caplog.at_level(logging.INFO, "taskqueue.plugins"):
        assert list(found()) == ["plain"]
        site.install("tq.needed", "")
        assert list(found()) == ["plain", "web"]
        site.install("tq-other", "")
        assert list(found()) == ["both", "plain", "web"]
    assert not caplog.records
    assert "tq_web" not in sys.modules


def test_our_own_webhook_comes_with_the_extra_http() -> None:
    plugin = plugins.installed()["webhook"]
    assert (plugin.distribution, plugin.entry_value) in {
        ("taskqueue", "taskqueue.webhook.plugin:Webhook.factory [http]"),
        ("taskqueue-webhook", "taskqueue.webhook.plugin:Webhook.factory"),  # from Debian packages: a package of its own
    }
    assert callable(load_plugin("webhook", plugin.entry_value))


def test_a_broken_distribution_does_not_hide_the_others(site: Site, caplog: Caught) -> None:
    site.install("tq-good", entry("good = tq_good:W"))
    empty = site.path / "tq_empty-1.0.dist-info"
    empty.mkdir()
    nameless = site.path / "tq_nameless-1.0.dist-info"
    nameless.mkdir()
    (nameless / "METADATA").write_text("Metadata-Version: 2.1\n")
    (nameless / "entry_points.txt").write_text(entry("hidden = x:y"))
    rubbish = site.path / "tq_rubbish-1.0.dist-info"
    rubbish.mkdir()
    (rubbish / "METADATA").write_bytes(b"Name: tq-rubbish\nVersion: 1\n")
    (rubbish / "entry_points.txt").write_text("no section\n=\n[worker.plugins\n[worker.plugins]\nx\n")
    with caplog.at_level(logging.ERROR, "taskqueue.plugins"):
        assert list(found()) == ["good"]
    assert "tq-rubbish" in caplog.text


def test_load(site: Site) -> None:
    site.install(
        "tq-load", entry("w = tq_load:W.factory"), source="class W:\n    factory = staticmethod(lambda: 7)\nN = 1\n"
    )
    assert load_plugin("w", "tq_load:W.factory")() == 7
    with pytest.raises(PluginError, match="expected a class"):
        load_plugin("w", "tq_load:N")
    with pytest.raises(AttributeError):
        load_plugin("w", "tq_load:Missing")
    with pytest.raises(ModuleNotFoundError):
        load_plugin("w", "tq_no_such_module:W")
    sys.modules.pop("tq_load")
