"""Text from outside (ids, bodies, errors) made safe for a terminal: control characters are escaped."""

from __future__ import annotations


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


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return (
        character.encode("unicode_escape").decode()
        if character > "\xff" or character in "\t\r\n"
        else (f"\\x{ord(character):02x}")
    )
