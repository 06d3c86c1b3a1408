"""`taskqueue config`: the config that is in force, and where each value was said; or only whether it is valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from taskqueue.cli.arguments.common_options import operator_command
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.effective_values import Row, show_values
from taskqueue.config.keys import RESERVED
from taskqueue.config.values import did_you_mean
from taskqueue.errors import ConfigError


@click.command("config", short_help="Print the config in force; check it.")
@operator_command()
@click.argument("sections", metavar="[SECTION]...", nargs=-1)
@click.option("--check", is_flag=True, help="Only say whether it is valid: exit 2 where it is not.")
def command(operator: Operator, sections: Sequence[str], check: bool) -> int:
    """Print every value that is in force and where it was said: file and line, environment, or default.

    SECTION: amqp, dispatcher, workerpool, logging, http; http_QUEUE, schedule_NAME; DEFAULT, for worker types without
    a section; or a group of workers by its name, worker1 or worker2/bifh1, with what it has from all the sections that
    apply to it. By default all of them. Passwords are not shown. JSON has durations in seconds and sizes in bytes.
    """
    if check and sections:
        raise click.UsageError("--check is of all sections; expected none")
    if check:
        return _check(operator)
    rows = list(_rows(operator))
    known = list(dict.fromkeys(section for section, _ in rows))
    for section in sections:
        if section not in known:
            near = did_you_mean(section, known)
            raise click.UsageError(f"no section or group {section!r}; expected one of {', '.join(known)}{near}")
    _warn(operator)
    show_values(operator.show, [row for row in rows if not sections or row[0] in sections])
    return 0


def _rows(operator: Operator) -> Iterator[Row]:
    settings = operator.host_settings
    queues_and_schedules = [name for name in settings.http_sections() if name not in RESERVED]
    for section in (*RESERVED, *queues_and_schedules):
        yield from ((section, value) for value in settings.effective_of_section(section))
    yield from (("DEFAULT", value) for value in settings.effective_of_group("DEFAULT"))
    for group in settings.every_group({*operator.plugins, *settings.types()}):
        yield from ((group.name, value) for value in settings.effective_of_group(group.worker_type, group.instance))


def _check(operator: Operator) -> int:
    show = operator.show
    try:
        settings = operator.host_settings
        groups = settings.groups(operator.plugins)
    except ConfigError as error:
        if show.as_json:
            show.document({"valid": False, "faults": error.faults})
            return 2
        raise
    _warn(operator)
    if show.as_json:
        http = settings.http
        show.document(
            {
                "valid": True,
                "groups": [group.name for group in groups],
                "queues": [queue.name for queue in http.queues],
                "schedules": [schedule.name for schedule in http.schedules],
                "warnings": settings.warnings,
            }
        )
    show.line(f"config is valid: {settings.counted(len(groups))}")
    return 0


def _warn(operator: Operator) -> None:
    for warning in operator.host_settings.warnings:
        operator.show.note(warning)
