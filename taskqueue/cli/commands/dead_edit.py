"""The part of `taskqueue dead replay --edit` that a person has: each dead letter in an editor before it is replayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from taskqueue.cli.arguments import letter_text
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.editor import Editor
from taskqueue.operations.replay import Revival
from taskqueue.protocol.dead_letters import DeadLetter


class EditedByPerson:
    """Has each letter edited, again and again until it can be replayed. The text of a letter that is not replayed is
    kept in its file."""

    def __init__(self, operator: Operator, editor: Editor) -> None:
        self._show = operator.show
        self._interrupts = operator.interrupts
        self._editor = editor
        self._path = Path()

    def revise(self, letter: DeadLetter, revival: Revival, hindrance: Callable[[str], str | None]) -> Revival | None:
        """The letter as the person has changed it; None where it was not changed, or given up."""
        before = text = letter_text.written(revival)
        while True:
            text, self._path = self._editor.edit(text)
            if text == before:
                self._show.note(f"{letter.message_id}: not changed, and stays dead")
                self._path.unlink()
                return None
            try:
                edited = letter_text.parsed(text, revival)
                if why := hindrance(edited.queue):
                    raise letter_text.NotALetter(why)
            except letter_text.NotALetter as error:
                self._show.note(f"{letter.message_id}: {error}; what was written is in {self._path}")
                if not self._edit_again():
                    return None
                self._path.unlink()
            else:
                return edited

    def revised(self, letter: DeadLetter, replayed: bool) -> None:
        """Remove the file of a letter that was replayed, or say where it is."""
        if replayed:
            self._path.unlink()
        else:
            self._show.note(f"{letter.message_id}: not replayed; what was written is in {self._path}")

    def _edit_again(self) -> bool:
        self._interrupts.at_once = True
        again = click.confirm("Edit it again?", default=True, err=True)
        self._interrupts.at_once = False
        return again
