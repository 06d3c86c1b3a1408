"""The checks of `doctor` that need this host's config, users and plugins. They must never need the broker."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskqueue.cli.arguments import group_names
from taskqueue.cli.operator import Operator
from taskqueue.cli.trial.trial import Trial
from taskqueue.config.load import DEFAULT_PATH, Settings
from taskqueue.config.settings import GroupSettings
from taskqueue.errors import ConfigError, PluginError, PoolUnavailable
from taskqueue.host.spawn import SERVICE_USER
from taskqueue.operations.findings import Finding, ok, problem, warning
from taskqueue.operations.wording import last_line
from taskqueue.status.document import Pool


def config(operator: Operator) -> Iterator[Finding]:
    """Each fault and warning of the config."""
    try:
        settings = operator.host_settings
        settings.groups(operator.plugins)
    except ConfigError as error:
        for fault in error.faults:
            yield problem("config", fault, "mend it; taskqueue config --check says whether that was all")
        return
    for each in settings.warnings:
        yield warning("config", each, "install the plugin, mend the name, or remove it")
    if not settings.warnings:
        yield ok("config", ", ".join(settings.files()) or f"no section in {operator.config_path or DEFAULT_PATH}")


def lenient(operator: Operator, **keywords: Any) -> Settings | None:
    """The settings for all further checks, also where a user is missing; None where the config has another fault."""
    try:
        return operator.load(installed=operator.plugins, user_exists=lambda name: True, **keywords)
    except ConfigError:
        return None


def files(operator: Operator) -> Iterator[Finding]:
    """Whether others than root may write the config or read its password, and whether the daemons may read it."""
    settings = lenient(operator, environ={})
    if settings is None:
        return
    values = settings.effective_of_section("amqp")
    with_password = {value.origin.rpartition(":")[0] for value in values if value.key == "passwd"}
    for name in settings.files():
        found = Path(name).stat()
        mode = stat.S_IMODE(found.st_mode)
        if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and found.st_gid != 0):
            yield problem(
                "permissions", f"{name} has mode {mode:04o}: who may write it decides what runs, and as whom",
                f"chmod go-w {name}",
            )  # fmt: skip
        elif mode & stat.S_IROTH and name in with_password:
            yield warning(
                "permissions", f"{name} has mode {mode:04o}: everybody may read the broker's password",
                f"chgrp {SERVICE_USER} {name}; chmod 640 {name}",
            )  # fmt: skip
        elif not _service_may_read(found):
            yield warning(
                "permissions", f"{name}: user {SERVICE_USER} may not read it; a reload of the dispatcher will fail",
                f"chgrp {SERVICE_USER} {name}; chmod 640 {name}",
            )  # fmt: skip
        else:
            yield ok("permissions", f"{name} has mode {mode:04o}")


def _service_may_read(found: os.stat_result) -> bool:
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return True  # the dispatcher runs as somebody else
    if found.st_uid == service.pw_uid:
        return bool(found.st_mode & stat.S_IRUSR)
    if found.st_gid in os.getgrouplist(SERVICE_USER, service.pw_gid):
        return bool(found.st_mode & stat.S_IRGRP)
    return bool(found.st_mode & stat.S_IROTH)


def wanted(operator: Operator, settings: Settings) -> tuple[GroupSettings, ...]:
    """The groups that are to run on this host; none where the config does not say."""
    try:
        return settings.groups(operator.plugins)
    except ConfigError:
        return ()


def users(groups_wanted: tuple[GroupSettings, ...]) -> Iterator[Finding]:
    """Whether each group's user exists, and we may become it."""
    seen: dict[str, None] = {}
    for group in groups_wanted:
        name, why_not = group_names.user_of(group)
        if name is not None:
            seen[name] = None
        elif "does not exist" in why_not or "exists" in why_not:
            yield problem("users", f"{group.name}: {why_not}", f"adduser --system --group {group.user or SERVICE_USER}")
        else:
            yield warning("users", f"{group.name}: {why_not}", "run taskqueue doctor, and the workerpool, as root")
    if seen:
        yield ok("users", f"workers run as {', '.join(seen)}")


def plugins(operator: Operator, groups_wanted: tuple[GroupSettings, ...]) -> Iterator[Finding]:
    """Whether each plugin that is to run imports."""
    good = []
    for group in groups_wanted:
        try:
            with Trial(group, operator.plugins[group.worker_type]) as trial:
                trial.imported()
        except ConfigError:
            continue  # `users` has reported it
        except PluginError as error:
            yield problem(
                "plugins", f"{group.name} does not import: {last_line(str(error))}",
                f"taskqueue plugins {group.name} shows where",
            )  # fmt: skip
        else:
            good.append(group.name)
    if good:
        yield ok("plugins", f"import: {', '.join(good)}")
    if not groups_wanted:
        yield ok("plugins", f"{len(operator.plugins)} installed, none to run on this host")


def pool(operator: Operator, socket: Path | None) -> Pool | PoolUnavailable:
    """The status document of the pool, or why there is none."""
    try:
        return operator.pool(socket)
    except PoolUnavailable as error:
        return error
