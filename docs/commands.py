"""The man pages and the shell completions of the command taskqueue, made of the help texts of its subcommands.

commands.py man DIRECTORY           taskqueue.1.rst, taskqueue-submit.1.rst, … for Sphinx
commands.py completion DIRECTORY    bash/taskqueue and zsh/_taskqueue
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from taskqueue.cli.main import taskqueue
from taskqueue.cli.operator import FRONT_VARIABLE
from taskqueue.config.load import DEFAULT_PATH, URL_VARIABLE
from taskqueue.operations.front import TOKEN_VARIABLE
from taskqueue.operations.management import URL_VARIABLE as MANAGEMENT_VARIABLE
from taskqueue.status.document import RUNTIME_DIR

NAME = "taskqueue"
STATUSES = {
    "0": "It did what it was asked to.",
    "1": "It failed, or what it found is not well.",
    "2": "Wrong usage, or a fault in the config: one line for each.",
    "3": "The broker cannot be reached, or refuses the user, the password or the virtual host; or the front or its book"
    " cannot be reached, or the front refuses the token.",
    "4": "It took longer than it was to take.",
    "130": "It was ended by Ctrl-C, and has said how far it came.",
}
ENVIRONMENT = {
    URL_VARIABLE: "The broker, *amqp[s]://user:password@host:port/vhost*; it wins over the config.",
    MANAGEMENT_VARIABLE: "The broker's management API, *http[s]://[user:password@]host:port*, where it is not at the"
    " broker's host, port 15672. Nothing needs it.",
    FRONT_VARIABLE: "The front, *http[s]://host:port* or *unix:/path*, where it is not this host's own.",
    TOKEN_VARIABLE: "The token for the front. A unix socket needs none.",
}

Commands = dict[tuple[str, ...], click.Context]
"""All commands by their words, `("taskqueue", "submit")`."""


def commands() -> Commands:
    """The command itself, and all subcommands, in the order in which help shows them."""
    return dict(_walk(click.Context(taskqueue, info_name=NAME, **taskqueue.context_settings)))


def _walk(context: click.Context) -> Iterator[tuple[tuple[str, ...], click.Context]]:
    yield tuple(context.command_path.split()), context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from _walk(click.Context(command, parent=context, info_name=name))


def page(words: tuple[str, ...], every: Commands) -> str:
    """The man page of one command, in reStructuredText."""
    context = every[words]
    command = context.command
    title = f"{'-'.join(words)} -- {_summary(command)}"
    usage = " ".join(_usage(piece) for piece in command.collect_usage_pieces(context))
    below = [each for each in every if each[:-1] == words]
    sections = {
        "Synopsis": f"**{' '.join(words)}** {usage}",
        "Description": "\n\n".join(map(_escaped, (command.help or "").split("\n\n"))),
        "Commands": "\n".join(
            f"**{'-'.join(each)}**\\ (1)\n   {_escaped(every[each].command.get_short_help_str(200))}" for each in below
        ),
        "Options": "\n".join(_options(context)),
        "Exit status": "\n".join(f"{status}\n   {text}" for status, text in STATUSES.items()),
        "Environment": "\n".join(f"**{name}**\n   {text}" for name, text in ENVIRONMENT.items()),
        "Files": f"*{DEFAULT_PATH}*, *{Path(DEFAULT_PATH).parent}/conf.d/\\*.ini*, *{RUNTIME_DIR}/workerpool.sock*",
        "See also": ", ".join([*_others(words, every), "**taskqueue-config.ini**\\ (5)"]),
    }
    parts = [f"{heading}\n{'-' * len(heading)}\n\n{text}\n" for heading, text in sections.items() if text]
    return "\n".join([title, "=" * len(title), "", *parts])


def _summary(command: click.Command) -> str:
    if command is taskqueue:
        return "the operator's command of taskqueue"
    text = command.get_short_help_str(200).rstrip(".")
    return text[:1].lower() + text[1:]


def _others(words: tuple[str, ...], every: Commands) -> list[str]:
    """The command above, and those beside."""
    near = [each for each in every if (each != words and each[:-1] in {words[:-1]}) or each == words[:-1]]
    return [f"**{'-'.join(each)}**\\ (1)" for each in near]


def _usage(piece: str) -> str:
    marked = re.sub(r"[A-Z][A-Z-]+", lambda found: f"*{found[0]}*", piece)
    return marked.replace("*...", "*\\ ...").replace("|", "\\ \\|\\ ")


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is None:
            continue
        match = re.fullmatch(r"(-[^ ,]+(?:, -[^ ,]+)*)(?: (.*))?", record[0])
        assert match is not None, record
        names, metavar = match.groups(default="")
        value = f" *{_escaped(metavar)}*" if metavar else ""
        yield f"**{names}**{value}\n   {_escaped(record[1])}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\*`|_])", r"\\\1", " ".join(text.split()))


def completion(shell: str) -> str:
    """The script with which `shell` completes the command."""
    maker = get_completion_class(shell)
    assert maker is not None
    source = maker(taskqueue, {}, NAME, f"_{NAME.upper()}_COMPLETE").source()
    if shell == "zsh":  # click's end of it is for a script that is sourced; this is a function's file in fpath
        functions, brace, _ = source.rpartition("\n}\n")
        source = f'{functions}{brace}\n_{NAME}_completion "$@"'
    return source.strip() + "\n"


def write(what: str, directory: Path) -> None:
    """Write all files of `man` or of `completion`; one that is as it should be is left alone."""
    if what == "man":
        every = commands()
        files = {f"{'-'.join(words)}.1.rst": page(words, every) for words in every}
    else:
        files = {f"bash/{NAME}": completion("bash"), f"zsh/_{NAME}": completion("zsh")}
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in {"man", "completion"}:
        sys.exit(__doc__)
    write(sys.argv[1], Path(sys.argv[2]))
