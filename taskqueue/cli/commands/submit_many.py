"""The part of `taskqueue submit` that submits, one workitem or millions, and says how far it came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from taskqueue.cli.arguments.submission import Submission
from taskqueue.cli.operator import Operator
from taskqueue.cli.terminal.columns import Column
from taskqueue.client import Client, Submitted
from taskqueue.errors import MalformedWorkitem, TaskqueueError, WorkitemRefused

_COLUMNS = (Column("id"), Column("worker_type"))


class SubmitMany:
    """Submits bodies one after the other. At Ctrl-C those that were read are submitted, no more.

    `unit`: what a body is called in messages, `line` or `workitem`. `total`: how many there will be; None: not known.
    """

    def __init__(self, operator: Operator, submission: Submission, unit: str, total: int | None) -> None:
        self._show = operator.show
        self._interrupts = operator.interrupts
        self._submission = submission
        self._unit = unit
        self._total = total
        self._only_count = self._show.on_terminal and not self._show.as_json and total != 1
        """On a terminal only the number is shown: nobody reads millions of ids."""
        self._taken = 0
        self._submitted = 0
        self._fault: TaskqueueError | None = None

    def run(self, client: Client, bodies: Iterable[bytes]) -> int:
        """The exit status."""
        self._interrupts.deferred = True
        try:
            with self._progress() as advance:
                client.submit_each(self._submission.worker_type, self._each(bodies), partial(self._confirmed, advance))
            if self._fault is not None:
                raise self._fault
        except WorkitemRefused as error:
            self._say_how_far()
            raise TaskqueueError(f"{self._unit} {self._submitted + 1}: {error}") from None
        except (TaskqueueError, KeyboardInterrupt):
            self._say_how_far()
            raise
        if self._interrupts.came and self._submitted != self._total:
            self._say_how_far()
            raise KeyboardInterrupt
        if self._only_count:
            self._show.line(f"{self._submitted} submitted")
        return 0

    def _progress(self) -> AbstractContextManager[Callable[[int], None]]:
        if self._total == 1:
            return nullcontext(lambda count: None)
        return self._show.progress(f"submitting to {self._submission.worker_type}", self._total)

    def _each(self, bodies: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
        for body in bodies:
            if self._interrupts.came:
                return
            try:
                options = self._submission.options(body)
            except MalformedWorkitem as error:  # raised once those before it are confirmed
                self._fault = TaskqueueError(f"{self._unit} {self._taken + 1}: {error}")
                return
            self._taken += 1
            yield body, options

    def _confirmed(self, advance: Callable[[int], None], submitted: Submitted) -> None:
        self._submitted += 1
        advance(1)
        if self._show.as_json:
            self._show.row(_COLUMNS, (submitted.message_id, self._submission.worker_type))
        elif not self._only_count:
            self._show.line(submitted.message_id)

    def _say_how_far(self) -> None:
        """Show how many were submitted, and with which line a person goes on."""
        if self._total == 1:
            return
        text = f"{self._submitted} {self._unit}s were submitted"
        if self._taken > self._submitted:
            text += f"; of the next {self._taken - self._submitted} it is not known"
        elif self._total is None:
            text += f"; go on with line {self._submitted + 1}"
        self._show.note(text)
