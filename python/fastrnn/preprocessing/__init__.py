"""Text and series to arrays, under Keras's names: `sequence` and `text`."""

from . import sequence, text

__all__ = ["sequence", "text"]
