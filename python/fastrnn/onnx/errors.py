"""What cannot be converted."""

from __future__ import annotations


class Unsupported(ValueError):
    """A layer, operator or attribute that has no counterpart on the other side; the message names its place."""
