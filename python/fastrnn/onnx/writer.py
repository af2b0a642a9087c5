"""A graph while it is written: nodes, initialisers and names. It knows no layers (export.py does)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .errors import Unsupported

Array = npt.NDArray[Any]

OPSET = 17
IR_VERSION = 8
LAST = np.iinfo(np.int64).min  # the end of a slice that walks down to the first element


class Writer:
    """Adds nodes one by one; what `op` returns is the name of a result.

    `place` says in messages which layer is being written, `scope` begins the names of its nodes.
    """

    def __init__(self, padding: str) -> None:
        self.padding = padding
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.scope, self.place = "", ""
        self._names: set[str] = {"input", "output"}
        self._constants: dict[Any, str] = {}
        self._once: dict[Any, Any] = {}

    def name(self, hint: str) -> str:
        base = name = f"{self.scope}/{hint}" if self.scope else hint
        count = 1
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def weight(self, hint: str, value: Array) -> str:
        """An initialiser of its own."""
        name = self.name(hint)
        self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """A small initialiser, shared by all who need the same."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            scope, self.scope = self.scope, ""
            self._constants[key] = self.weight("constant", array)
            self.scope = scope
        return self._constants[key]

    def ops(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> list[str]:
        """A node with the outputs hinted at; "" leaves one out."""
        names = [self.name(hint) if hint else "" for hint in outputs]
        self.nodes.append(helper.make_node(kind, inputs, names, name=self.name(kind), **attributes))
        return names

    def op(self, kind: str, *inputs: str, hint: str | None = None, **attributes: Any) -> str:
        return self.ops(kind, list(inputs), [hint or kind.lower()], **attributes)[0]

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gave for this key the first time."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    def unsupported(self, text: str) -> Unsupported:
        return Unsupported(f"[export] {self.place}: {text}")

    # ---- what several layers need ---------------------------------------------------------------------------------

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=list(order))

    def squeeze(self, x: str, axis: int) -> str:
        return self.op("Squeeze", x, self.constant([axis]))

    def unsqueeze(self, x: str, axis: int) -> str:
        return self.op("Unsqueeze", x, self.constant([axis]))

    def cast(self, x: str, dtype: Any) -> str:
        return self.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def flip(self, x: str, axis: int = 1) -> str:
        """Turned round along an axis."""
        ends = [self.constant([v]) for v in (-1, LAST, axis, -1)]
        return self.op("Slice", x, *ends)

    def extents(self, x: str, start: int, end: int) -> str:
        """The extents of the axes from `start` to `end`, (n,) int64."""
        return self.op("Shape", x, start=start, end=end)
