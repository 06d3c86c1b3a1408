"""Output for a terminal only: tables, colours, progress bars, a picture that is drawn again in its place.

The one module that uses Rich, which is loaded when there is a terminal. It must never read markup in what it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import TYPE_CHECKING, Literal, TextIO

from taskqueue.cli.terminal.columns import Cell, Column
from taskqueue.cli.terminal.text import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class Screen:
    """One of the standard streams that is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console: Console | None = None
        self._widths: list[int] | None = None

    @property
    def in_use(self) -> bool:
        """Whether Rich has written to it: a progress bar may stand there."""
        return self._console is not None

    @property
    def console(self) -> Console:
        """Rich's console on it."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=self._stream, markup=False, highlight=False, emoji=False)
        return self._console

    def line(self, text: str, style: str = "") -> None:
        """A line of safe text, as long as it is."""
        self.console.print(_text(text, style), soft_wrap=True)

    def row(self, columns: Sequence[Column], cells: Sequence[str], styles: Sequence[str] = ()) -> None:
        """A row of a stream, as wide as the cells so far were."""
        from rich.cells import cell_len
        from rich.text import Text

        widths = self._widths or [0] * len(columns)
        self._widths = [max(width, cell_len(cell)) for width, cell in zip(widths, cells, strict=True)]
        line = Text()
        for column, cell, width, style in zip(columns, cells, self._widths, styles or [""] * len(cells), strict=True):
            gap = " " * (width - cell_len(cell))
            line.append(gap + cell if column.right else cell + gap, style=style).append("  ")
        line.rstrip()
        self.console.print(line, soft_wrap=True)

    def table(
        self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], title: str = "", *, head: bool = True
    ) -> None:
        """A table, of the columns that fit a terminal so wide; without `head` it has no headings."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=head, header_style="bold", title_justify="left")
        table.title = _text(safe(title), "bold") if title else None
        shown = [column.from_width <= self.console.width for column in columns]
        for column in compress(columns, shown):
            justify: Literal["left", "right"] = "right" if column.right else "left"
            table.add_column(_text(column.title.upper()), justify=justify, overflow="fold", no_wrap=column.whole)
        for row in rows:
            cells = compress(zip(columns, row, strict=True), shown)
            table.add_row(*(_text(column.shown(cell), column.style_of(cell)) for column, cell in cells))
        self.console.print(table)

    @contextmanager
    def progress(self, what: str, total: float | None) -> Iterator[Callable[[int], None]]:
        """A progress bar; `advance(n)` moves it."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
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
        """`redraw(draw)` has what `draw()` shows take the place of what was there."""
        console = self.console
        with console.screen(hide_cursor=True):

            def redraw(draw: Callable[[], None]) -> None:
                with console.capture() as captured:
                    draw()
                lines = captured.get().rstrip("\n").split("\n")[: console.height]
                self._stream.write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")
                self._stream.flush()

            yield redraw


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style)
