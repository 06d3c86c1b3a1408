"""The one place that decides how something is shown: to a person on a terminal, to a pipe, or as JSON.

Commands give columns, rows and lines. On a terminal they become tables with colours; in a pipe lines of cells
separated by tabs, under a line of headings, never wrapped; with `--json` one document, or one a line for a stream.
What comes from outside (ids, bodies, errors) cannot forge what a terminal shows: control characters are escaped, and
no markup is read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TextIO

from taskqueue.cli.terminal.columns import Cell, Column, as_object, plain
from taskqueue.cli.terminal.screen import Screen
from taskqueue.cli.terminal.text import safe, safe_lines

NAME = "taskqueue"


class Show:
    """Shows things on `out`, and remarks on `err`. `as_json` is what `--json` says."""

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.on_terminal = self._out.isatty()
        """Whether standard output is a terminal; with `--json`, too."""
        self._screen = Screen(self._out)
        self._err_screen = Screen(self._err)

    @property
    def width(self) -> int:
        """Characters in a line of the terminal."""
        return self._screen.console.width

    # -- what a command found

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, title: str = "") -> None:
        """All rows at once. JSON: a list of objects. `title` is for terminals."""
        if self.as_json:
            self.document([as_object(columns, row) for row in rows])
        elif self.on_terminal:
            self._screen.table(columns, rows, title)
        else:
            self._line("\t".join(column.title.upper() for column in columns))
            for row in rows:
                self._line("\t".join(column.shown(cell) for column, cell in zip(columns, row, strict=True)))

    def stream(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        """Rows as they come, each at once; any number of them. JSON: an object a line."""
        for number, row in enumerate(rows):
            self.row(columns, row, first=number == 0)

    def row(self, columns: Sequence[Column], row: Sequence[Cell], *, first: bool = False) -> None:
        """One row of a stream; the `first` comes under headings."""
        if self.as_json:
            self._line(json.dumps(as_object(columns, row)), flush=True)
            return
        heads = [column.title.upper() for column in columns]
        cells = [column.shown(cell) for column, cell in zip(columns, row, strict=True)]
        if not self.on_terminal:
            for line in (heads, cells) if first else (cells,):
                self._line("\t".join(line), flush=True)
            return
        if first:
            self._screen.row(columns, heads)
        self._screen.row(columns, cells, [column.style_of(cell) for column, cell in zip(columns, row, strict=True)])

    def fields(self, pairs: Mapping[str, Cell], *, title: str = "") -> None:
        """Names with values. JSON: an object."""
        if self.as_json:
            self.document(dict(pairs))
        elif self.on_terminal:
            self._screen.table([Column("name", style="bold"), Column("value")], pairs.items(), title, head=False)
        else:
            for name, value in pairs.items():
                self._line(f"{safe(name)}\t{Column(name).shown(value)}")

    def document(self, value: Any) -> None:
        """A JSON document, for `--json` only: on one line in a pipe."""
        indent = 2 if self.on_terminal else None
        self._line(json.dumps(value, indent=indent, default=plain), flush=True)

    def line(self, text: object, style: str = "") -> None:
        """A line of text; nothing with `--json`."""
        if self.as_json:
            return
        if self.on_terminal:
            self._screen.line(safe(text), style)
        else:
            self._line(safe(text), flush=True)

    def lines(self, text: object, style: str = "") -> None:
        """Text of many lines, such as a traceback; nothing with `--json`."""
        for line in safe_lines(text).split("\n"):
            self.line(line, style)

    def value(self, value: Any) -> None:
        """Show a plugin's result, or a body: text and bytes in a pipe as they are, anything else as JSON; on a terminal
        escaped."""
        if not isinstance(value, str | bytes):
            value = json.dumps(value, indent=2 if self.on_terminal else None, ensure_ascii=False)
        if self.on_terminal:
            self.lines(value)
            return
        self._out.flush()
        self._out.buffer.write(value if isinstance(value, bytes) else f"{value}\n".encode("utf-8", "backslashreplace"))
        self._out.flush()

    # -- remarks

    def note(self, text: object) -> None:
        """A remark for a person, on standard error, whatever the output is: one line."""
        line = f"{NAME}: {safe(text)}"
        if self._err.isatty() and self._err_screen.in_use:
            self._err_screen.line(line)
        else:
            print(line, file=self._err, flush=True)

    def trace(self, text: object) -> None:
        """A traceback from elsewhere, on standard error."""
        print(safe_lines(str(text).rstrip()), file=self._err, flush=True)

    def progress(self, what: str, total: float | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """A progress bar on standard error, where that is a terminal; `advance(n)` moves it."""
        return self._err_screen.progress(what, total) if self._err.isatty() else nullcontext(lambda count: None)

    @contextmanager
    def in_place(self) -> Iterator[Callable[[Callable[[], None]], None]]:
        """For what is shown again and again: `redraw(draw)` has what `draw()` shows take the place of what was there.

        In a pipe one comes behind the other, an empty line between; with `--json` a document a line.
        """
        if self.on_terminal and not self.as_json:
            with self._screen.in_place() as redraw:
                yield redraw
            return

        def follow(draw: Callable[[], None]) -> None:
            draw()
            self.line("")

        yield follow

    def _line(self, text: str, *, flush: bool = False) -> None:
        print(text, file=self._out, flush=flush)
