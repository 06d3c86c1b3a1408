"""Fixtures of the system tests: the installed commands, real signals, real unix users, a real broker."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker import PrivateBroker
from daemons import Stage
from installation import Installation
from processes import adopt_orphans

_USERS = {"taskqueue": "", "bifh1": "games", "bifh2": ""}
"""Unix users, and a supplementary group that each is in, one that Debian always has."""
_LEDGER = Path("/var/tmp/taskqueue-tests.users")
"""Locked by every session that uses the users; names those that were made for tests, which the last one removes."""

_SLOW = "TASKQUEUE_SLOW_TESTS"

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Names the markers of this tier."""
    config.addinivalue_line("markers", "root_only: needs root to become other users; skipped for anyone else")
    config.addinivalue_line("markers", f"slow: takes minutes; run where {_SLOW}=1 is in the environment, as CI sets it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Root runs everything; anyone else all but what only root can do. What is slow is for CI."""
    skipped = {"root_only": os.geteuid() != 0, "slow": os.environ.get(_SLOW) != "1"}
    reasons = {"root_only": "needs root to become other users", "slow": f"takes minutes; {_SLOW}=1 runs it"}
    for item in items:
        for name in (name for name, skip in skipped.items() if skip and item.get_closest_marker(name)):
            item.add_marker(pytest.mark.skip(reason=reasons[name]))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # side by side, the longest must not be last


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """Taskqueue installed where every unix user can read it; removed at the end."""
    adopt_orphans()
    directory = Path(tempfile.mkdtemp(prefix="taskqueue-tests-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        yield Installation(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def unix_users() -> Iterator[None]:
    """Users taskqueue, bifh1 and bifh2, made where they are missing; those are removed with the last session."""
    if os.geteuid() != 0:
        yield
        return
    with _LEDGER.open("a+") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_SH)  # waits only while the last session of before tidies up
        for user, group in _USERS.items():
            if not _exists(user):
                command = ["useradd", "--system", "--user-group", "--shell", "/bin/sh", user]
                made = subprocess.run([*command, *(["--groups", group] if group else [])], check=False)
                assert _exists(user), made  # another session may have been faster
                ledger.write(f"{user}\n" if made.returncode == 0 else "")
                ledger.flush()
        yield
        with contextlib.suppress(BlockingIOError):  # another session uses them: it is the last one's to tidy up
            fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ledger.seek(0)
            made_for_tests = ledger.read().split()
            for user in made_for_tests:
                subprocess.run(["userdel", user], check=False, capture_output=True)
            ledger.truncate(0)
            ledger.write("".join(f"{user}\n" for user in made_for_tests if _exists(user)))  # who still runs something


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, installation: Installation, unix_users: None, amqp_url: str
) -> Iterator[Stage]:
    """A stage of the test's own; nothing is started yet."""
    yield from _stage(request, installation, amqp_url)


@pytest.fixture
def stage_of_its_own(
    request: pytest.FixtureRequest, installation: Installation, unix_users: None, amqp_url: str
) -> Iterator[Stage]:
    """As `stage`, where a module has made that name its shared one's."""
    yield from _stage(request, installation, amqp_url)


@pytest.fixture(scope="module")
def shared_vhost(request: pytest.FixtureRequest, broker: PrivateBroker) -> Iterator[str]:
    """A vhost that the tests of one module share."""
    name = f"{Path(request.node.name).stem}-{next(_numbers)}"
    broker.add_vhost(name)
    yield name
    if broker.running:
        broker.delete_vhost(name)


@pytest.fixture(scope="module")
def shared_stage(
    request: pytest.FixtureRequest,
    installation: Installation,
    unix_users: None,
    broker: PrivateBroker,
    shared_vhost: str,
) -> Iterator[Stage]:
    """A stage that the tests of one module share, where what one does cannot hurt another."""
    yield from _stage(request, installation, broker.url(shared_vhost))


def _stage(request: pytest.FixtureRequest, installation: Installation, amqp_url: str) -> Iterator[Stage]:
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(request.node.name).stem)[:40]
    made = Stage(installation, installation.prefix.parent / f"{next(_numbers)}-{name}", amqp_url)
    failed = request.session.testsfailed
    try:
        yield made
    finally:
        made.close()
        if request.session.testsfailed > failed:
            for daemon in made.daemons:
                print(f"--- log of {daemon.name}\n{daemon.tail()}")
