"""Small files in which Linux tells of the machine; what cannot be read is None."""

from __future__ import annotations

from pathlib import Path


def number_in(file: Path) -> float | None:
    text = text_in(file)
    try:
        return float(text) if text else None
    except ValueError:
        return None


def text_in(file: Path) -> str | None:
    """None where it is empty, too."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
