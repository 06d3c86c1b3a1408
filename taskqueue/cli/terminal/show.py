"""The one place that decides how something is shown: to a person on a terminal, to a pipe, or as JSON.

Commands give columns, rows and lines. On a terminal they become tables with colours; in a pipe lines of cells
separated by tabs, under a line of headings, never wrapped; with `--json` one document, or one a line for a stream.
What comes from outside (ids, bodies, errors) cannot forge what a terminal shows: control characters are escaped, and
no markup is read. Rich is loaded only where there is a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

NAME = "taskqueue"

Cell = Any
"""What JSON can hold, or bytes; None is shown as a dash."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `key` names it in JSON. `text` makes a cell readable for people; JSON gets the cell itself."""

    key: str
    heading: str = ""
    right: bool = False
    """Numbers stand to the right."""
    style: str = ""
    styles: Mapping[Any, str] = field(default_factory=dict)
    """Rich's styles by cell: `{"problem": "bold red"}`."""
    text: Callable[[Any], str] = str

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.heading or self.key.replace("_", " ")

    def shown(self, cell: Cell) -> str:
        """A cell as one line of safe text."""
        return "-" if cell is None else safe(cell if isinstance(cell, bytes) else self.text(cell))


def safe(value: object) -> str:
    """`value` as one line of text that does nothing to a terminal: what is not printable is escaped.

    That holds for control characters and for what turns the direction of text round; bytes are taken for UTF-8.
    """
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if text.isprintable() else "".join(map(_escaped, text))


def safe_lines(value: object) -> str:
    """`safe`, but for line ends and tabs: for tracebacks and bodies."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return "\n".join(safe(line.expandtabs()) for line in text.split("\n"))


def moment(at_s: float) -> str:
    """A Unix time in the local time zone, for people."""
    return datetime.fromtimestamp(at_s).astimezone().isoformat(" ", "seconds")


def span(seconds: float) -> str:
    """How long something takes or took, in at most two units: `3.2s`, `5m 10s`, `2h 3m`, `4d 1h`."""
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    size, unit, smaller, smaller_unit = next(each for each in _UNITS if seconds >= each[0])
    whole, rest = divmod(seconds, size)
    return f"{whole:.0f}{unit} {rest // smaller:.0f}{smaller_unit}"


_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return (
        character.encode("unicode_escape").decode()
        if character > "\xff" or character in "\t\r\n"
        else (f"\\x{ord(character):02x}")
    )


class Show:
    """Shows things on `out`, and remarks on `err`. `as_json` is what `--json` says."""

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.on_terminal = self._out.isatty()
        """Whether standard output is a terminal; with `--json`, too."""
        self._consoles: dict[str, Console] = {}
        self._widths: list[int] | None = None

    # -- what a command found

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, title: str = "") -> None:
        """All rows at once. JSON: a list of objects. `title` is for terminals."""
        if self.as_json:
            self.document([_object(columns, row) for row in rows])
        elif self.on_terminal:
            self._rich_table(columns, rows, title)
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
            self._line(json.dumps(_object(columns, row)), flush=True)
            return
        if first:
            self._line(self._aligned(columns, [column.title.upper() for column in columns]), flush=True)
        cells = [column.shown(cell) for column, cell in zip(columns, row, strict=True)]
        if not self.on_terminal:
            self._line("\t".join(cells), flush=True)
            return
        styles = [_style(column, cell) for column, cell in zip(columns, row, strict=True)]
        self._print(self._aligned(columns, cells, styles))

    def fields(self, pairs: Mapping[str, Cell], *, title: str = "") -> None:
        """Names with values. JSON: an object."""
        if self.as_json:
            self.document(dict(pairs))
        elif self.on_terminal:
            self._rich_table([Column("name", style="bold"), Column("value")], pairs.items(), title, head=False)
        else:
            for name, value in pairs.items():
                self._line(f"{safe(name)}\t{Column(name).shown(value)}")

    def document(self, value: Any) -> None:
        """A JSON document, for `--json` only: on one line in a pipe."""
        indent = 2 if self.on_terminal else None
        self._line(json.dumps(value, indent=indent, default=_plain), flush=True)

    def line(self, text: object, style: str = "") -> None:
        """A line of text; nothing with `--json`."""
        if self.as_json:
            return
        if self.on_terminal:
            self._print(self._text(safe(text), style))
        else:
            self._line(safe(text), flush=True)

    def lines(self, text: object, style: str = "") -> None:
        """Text of many lines, such as a traceback; nothing with `--json`."""
        for line in safe_lines(text).split("\n"):
            self.line(line, style)

    def value(self, value: Any) -> None:
        """What a plugin returned, or a body: text and bytes in a pipe as they are, anything else as JSON; on a terminal
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
        if self._err.isatty() and "err" in self._consoles:  # a progress bar may stand there
            self._console("err").print(self._text(line), soft_wrap=True)
        else:
            print(line, file=self._err, flush=True)

    def trace(self, text: object) -> None:
        """A traceback from elsewhere, on standard error."""
        print(safe_lines(str(text).rstrip()), file=self._err, flush=True)

    @contextmanager
    def progress(self, what: str, total: float | None = None) -> Iterator[Callable[[int], None]]:
        """A progress bar on standard error, where that is a terminal; `advance(n)` moves it."""
        if not self._err.isatty():
            yield lambda count: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            console=self._console("err"),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with bar:
            task = bar.add_task(safe(what), total=total, rate="")

            def advance(count: int) -> None:
                speed = bar.tasks[0].speed
                bar.update(task, advance=count, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance

    @contextmanager
    def in_place(self) -> Iterator[Callable[[Callable[[], None]], None]]:
        """For what is shown again and again: `redraw(draw)` has what `draw()` shows take the place of what was there.

        In a pipe one comes behind the other, an empty line between; with `--json` a document a line.
        """
        if self.as_json or not self.on_terminal:

            def follow(draw: Callable[[], None]) -> None:
                draw()
                self.line("")

            yield follow
            return
        console = self.console
        with console.screen(hide_cursor=True):

            def redraw(draw: Callable[[], None]) -> None:
                with console.capture() as captured:
                    draw()
                lines = captured.get().rstrip("\n").split("\n")[: console.height]
                self._out.write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")
                self._out.flush()

            yield redraw

    @property
    def console(self) -> Console:
        """Rich's console on standard output."""
        return self._console("out")

    # -- inside

    def _line(self, text: str, *, flush: bool = False) -> None:
        print(text, file=self._out, flush=flush)

    def _print(self, text: str | Text) -> None:
        self.console.print(text, soft_wrap=True)

    def _text(self, text: str, style: str = "") -> Text:
        from rich.text import Text

        return Text(text, style=style)

    def _console(self, which: str) -> Console:
        if which not in self._consoles:
            from rich.console import Console

            file = self._out if which == "out" else self._err
            self._consoles[which] = Console(file=file, markup=False, highlight=False, emoji=False)
        return self._consoles[which]

    def _aligned(self, columns: Sequence[Column], cells: Sequence[str], styles: Sequence[str] = ()) -> Any:
        """A line of a stream on a terminal: as wide as the cells so far were; in a pipe, tabs."""
        if not self.on_terminal:
            return "\t".join(cells)
        from rich.cells import cell_len
        from rich.text import Text

        widths = self._widths or [0] * len(columns)
        self._widths = [max(width, cell_len(cell)) for width, cell in zip(widths, cells, strict=True)]
        line = Text()
        for column, cell, width, style in zip(columns, cells, self._widths, styles or [""] * len(cells), strict=True):
            gap = " " * (width - cell_len(cell))
            line.append(gap + cell if column.right else cell + gap, style=style).append("  ")
        line.rstrip()
        return line

    def _rich_table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], title: str, *, head: bool = True
    ) -> None:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=head, header_style="bold", title_justify="left")
        table.title = self._text(safe(title), "bold") if title else None
        for column in columns:
            table.add_column(
                self._text(column.title.upper()), justify="right" if column.right else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(
                *(
                    self._text(column.shown(cell), _style(column, cell))
                    for column, cell in zip(columns, row, strict=True)
                )
            )
        self.console.print(table)


def _style(column: Column, cell: Cell) -> str:
    return (
        column.styles.get(cell, column.style) if column.styles and isinstance(cell, str | int | None) else column.style
    )


def _object(columns: Sequence[Column], row: Sequence[Cell]) -> dict[str, Any]:
    return {
        column.key: _plain(cell) if isinstance(cell, bytes) else cell for column, cell in zip(columns, row, strict=True)
    }


def _plain(value: object) -> Any:
    """For JSON: bytes as text, with what is not UTF-8 escaped; times and the like as their text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
