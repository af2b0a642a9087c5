"""The tensors of one model, counted together before they are read."""

from __future__ import annotations

import os
from typing import Any

import numpy.typing as npt
from onnx import ModelProto, TensorProto

from .tensors import external_file, nbytes, to_array

Array = npt.NDArray[Any]


class Reader:
    """Makes the arrays of initializers and attributes; external data only from files in `folder`.

    Many tensors may name the same bytes of one file, and so a small file ask for any number of large arrays. Together
    they may take `max_bytes`, or as much as there is in the model's files.
    """

    def __init__(self, model: ModelProto, folder: str | None, max_bytes: int) -> None:
        self.model, self.folder, self.max_bytes = model, folder, max_bytes
        self.held, self.files = 0, set[str]()

    def __call__(self, tensor: TensorProto) -> Array:
        """Raises ValueError."""
        if tensor.data_location == TensorProto.EXTERNAL:
            self.files.add(external_file(tensor, self.folder))
            self._count(nbytes(tensor))
            return to_array(tensor, self.folder)
        array = to_array(tensor)  # no more than the model itself has
        self._count(array.nbytes)
        return array

    def _count(self, size: int) -> None:
        self.held += size
        if self.held > self.max_bytes and self.held > self.model.ByteSize() + sum(map(os.path.getsize, self.files)):
            raise ValueError(
                f"expected no more than the {self.max_bytes} bytes of max_bytes, or than there are in the model's "
                f"files, got {self.held} up to here"
            )
