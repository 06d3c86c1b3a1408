"""Man pages and shell completion: of the same help texts, for every subcommand; completion in real shells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from daemons import Stage
from terminal import Terminal

COMMANDS = Path(__file__).resolve().parents[3] / "docs" / "commands.py"
TAB = "\t"

ECHO = """
    from taskqueue.worker import BaseWorker

    class Worker(BaseWorker):
        def handle_task(self, body):
            return body
"""


def made(what: str, directory: Path) -> Path:
    """What `docs/commands.py` writes."""
    subprocess.run([sys.executable, str(COMMANDS), what, str(directory)], check=True)
    return directory


def test_a_page_for_every_command_with_every_option(stage: Stage, tmp_path: Path) -> None:
    pages = {path.name.removesuffix(".1.rst"): path.read_text() for path in made("man", tmp_path).iterdir()}
    top = stage.run("taskqueue", "--help").stdout
    names = re.findall(r"^  ([a-z-]+)  ", top.partition("Commands:")[2], re.MULTILINE)
    assert len(names) >= 5 and {"taskqueue", *(f"taskqueue-{name}" for name in names)} <= pages.keys()
    for name in names:
        text = pages[f"taskqueue-{name}"]
        assert re.match(rf"taskqueue-{name} -- [a-z]", text), "the title gives the summary"
        shown = stage.run("taskqueue", name, "--help").stdout
        for option in set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", shown, re.MULTILINE)):
            assert re.search(rf"^\*\*[^*]*{option}\b.*\*\*", text, re.MULTILINE), f"{name} {option}"
        assert f"**taskqueue-{name}**\\ (1)" in pages["taskqueue"]


def test_pages_that_are_as_they_should_be_are_left_alone(tmp_path: Path) -> None:
    page = made("man", tmp_path) / "taskqueue.1.rst"
    os.utime(page, (1, 1))
    made("man", tmp_path)
    assert page.stat().st_mtime == 1


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_in_a_real_shell(shell: str, stage: Stage, tmp_path: Path) -> None:
    stage.site.install("echo-echo", ECHO)
    script = stage.site.script("taskqueue")
    made("completion", tmp_path)
    environ = {
        **stage.env(),
        "PATH": f"{script.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PS1": "> ",
        "PROMPT": "> ",
    }
    command = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    setup = {
        "bash": f". {tmp_path}/bash/taskqueue",
        "zsh": f"fpath=({tmp_path}/zsh $fpath); autoload -Uz compinit; compinit -u -D",
    }[shell]
    with Terminal(command, environ) as terminal:
        terminal.shows("> ")
        terminal.press(f"{setup}; echo ready-$((1+1))\n")
        terminal.shows("ready-2")
        terminal.press(f"taskqueue sub{TAB}")
        terminal.shows(r"taskqueue submit ")
        terminal.press(f"ech{TAB}")
        terminal.shows(r"echo-echo ")
        terminal.press(f"--heade{TAB}")
        terminal.shows(r"--header ")
        # what a shell completes is what it runs: each argument of the line as the shell has read it
        terminal.press("a=b \x01printf '<%s>' \x05\n")
        terminal.shows("<taskqueue><submit><echo-echo><--header><a=b>")
        terminal.press("exit\n")
        assert terminal.wait() == 0
