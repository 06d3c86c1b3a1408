"""A column of what commands list: its name in JSON, its heading, and how a cell of it is worded for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskqueue.cli.terminal.text import safe

Cell = Any
"""A value that JSON can hold, or bytes; None is shown as a dash."""


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
    whole: bool = False
    """Never broken into two lines on a terminal: ids, which people copy."""
    from_width: int = 0
    """Terminals of fewer characters a line do without it."""

    @property
    def title(self) -> str:
        """The heading, in lower case."""
        return self.heading or self.key.replace("_", " ")

    def shown(self, cell: Cell) -> str:
        """A cell as one line of safe text."""
        return "-" if cell is None else safe(cell if isinstance(cell, bytes) else self.text(cell))

    def style_of(self, cell: Cell) -> str:
        """Rich's style for a cell."""
        known = self.styles and isinstance(cell, str | int | None)
        return self.styles.get(cell, self.style) if known else self.style


def as_object(columns: Sequence[Column], row: Sequence[Cell]) -> dict[str, Any]:
    """A row for JSON."""
    return {
        column.key: plain(cell) if isinstance(cell, bytes) else cell for column, cell in zip(columns, row, strict=True)
    }


def plain(value: object) -> Any:
    """A value that JSON cannot hold, as text: bytes with what is not UTF-8 escaped; anything else by `str`."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
