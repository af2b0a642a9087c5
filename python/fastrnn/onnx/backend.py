"""fastrnn as an onnx.backend: `prepare`, `run_model`, `run_node`, on the CPU.

import onnx
from fastrnn.onnx import backend
outputs = backend.prepare(onnx.load("model.onnx")).run([x])
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType

from .load import load
from .model import Model
from .tensors import type_of


class FastRNNRep(BackendRep):
    """A prepared model."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, a named tuple. `inputs`: arrays in the order of the graph's inputs, a dictionary, or one."""
        if isinstance(inputs, Mapping):
            results = self.model.run(inputs)
        else:
            arrays = list(inputs) if isinstance(inputs, Sequence) and not isinstance(inputs, str) else [inputs]
            names = list(self.model.inputs)
            if len(arrays) > len(names):
                raise ValueError(f"[onnx.backend] inputs: expected {len(names)} arrays, got {len(arrays)}")
            results = self.model.run(dict(zip(names, arrays, strict=False)))
        return namedtuple("Outputs", list(results), rename=True)(*results.values())


class FastRNNBackend(Backend):
    """The interface `onnx.backend.base.Backend`."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Does `prepare` take the model?"""
        if not cls.supports_device(device):
            return False
        try:
            load(model)
        except ValueError:
            return False
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> FastRNNRep:
        """Check and load an onnx.ModelProto."""
        if not cls.supports_device(device):
            raise ValueError(f"[onnx.backend] device: expected CPU, got {device!r}")
        onnx.checker.check_model(model)
        return FastRNNRep(load(model))

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run one operator on arrays in the order of its inputs (those left out of the node are not given).

        `opset_version`: of the operator; the newest otherwise.
        """
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        names = [name for name in node.input if name]
        arrays = [np.asarray(inputs[name]) for name in names] if isinstance(inputs, Mapping) else list(inputs)
        if len(arrays) != len(names):
            raise ValueError(f"[onnx.backend] inputs: expected {len(names)} arrays, got {len(arrays)}")
        given = dict(zip(names, map(np.asarray, arrays), strict=True))
        types = {name: _type_of(name, x) for name, x in given.items()}
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [onnx.helper.make_tensor_value_info(name, types[name], x.shape) for name, x in given.items()],
            [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        return FastRNNRep(load(model)).run(given)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The CPU alone."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except (AttributeError, ValueError):
            return False


def _type_of(name: str, x: Any) -> int:
    try:
        return type_of(x.dtype)
    except TypeError as error:
        raise TypeError(f"[onnx.backend] {name}: {error}") from None


is_compatible = FastRNNBackend.is_compatible
prepare = FastRNNBackend.prepare
run_model = FastRNNBackend.run_model
run_node = FastRNNBackend.run_node
supports_device = FastRNNBackend.supports_device
