"""The two errors of the datasets; nothing else lives here.

`DatasetError`: the data is there and cannot be used (corrupt, foreign, incomplete).
`DatasetUnavailable`: it is not there and could not be fetched. Only this one lets `--dataset auto` fall back.
"""

from __future__ import annotations


class DatasetError(ValueError):
    """A corpus was found but cannot be used."""


class DatasetUnavailable(DatasetError):
    """No corpus was found and none could be downloaded."""
