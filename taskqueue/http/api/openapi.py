"""TEMP."""

from typing import Any


def openapi(root: str = "") -> dict[str, Any]:
    """TEMP."""
    return {"openapi": "3.1.0"}
