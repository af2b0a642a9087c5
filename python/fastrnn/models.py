"""Sequential: a stack of layers that is built, run, trained, described and saved."""

# Training is in training/trainer.py.

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import saving
from .functional.checks import as_array
from .inference import FrozenModel
from .layers import (
    GRU,
    LSTM,
    Bidirectional,
    Conv1D,
    Embedding,
    InputLayer,
    Layer,
    SimpleRNN,
    Variable,
    checks,
    deserialize,
    serialize,
)
from .layers.base import Array, Shape
from .layers.variable import unique_name
from .training.trainer import Trainer

__all__ = ["Sequential", "clone_model", "load_model", "model_from_json", "save_model"]


class Sequential(Trainer):
    """A model whose layers run one after the other.

    `Sequential([Embedding(10000, 32), LSTM(32), Dense(1, activation="sigmoid")])`, or layer by layer with `add`. With
    an `Input` in front, or `input_shape` on the first layer, the weights exist at once; otherwise once data comes.
    `extra` holds strings that are saved with the model.
    """

    def __init__(
        self, layers: Sequence[Layer] | Layer | None = None, trainable: bool = True, name: str | None = None
    ) -> None:
        self.name = name if name is not None else unique_name("sequential")
        self.layers: list[Layer] = []
        self.extra: dict[str, str] = {}
        self._input: InputLayer | None = None
        self._input_shape: Shape | None = None
        # the shape that comes out of the last layer, while it is known
        self._shape: Any = None
        for layer in [layers] if isinstance(layers, Layer) else layers or ():
            self.add(layer)
        if not trainable:
            self.trainable = False

    # ---- layers ---------------------------------------------------------------------------------------------------

    def add(self, layer: Layer, rebuild: bool = True) -> None:
        """Put a layer on top."""
        if not isinstance(layer, Layer):
            hint = " (add its layers one by one)" if isinstance(layer, Sequential) else ""
            raise TypeError(f"[Sequential] layer: expected a layer, got {layer!r}{hint}")
        if isinstance(layer, InputLayer):
            if self.layers or self._input is not None:
                raise ValueError("[Sequential] layer: expected Input as the first entry only, got another after it")
            self._input = layer
            self._input_shape = self._shape = layer._batch_input_shape
            return
        if any(layer is other or layer.name == other.name for other in self.layers):
            names = [other.name for other in self.layers]
            raise ValueError(f"[Sequential] layer: expected a name other than {names}, got {layer.name!r}")
        if not self.layers and self._shape is None and layer._batch_input_shape is not None:
            self._input_shape = self._shape = layer._batch_input_shape
        if self._shape is not None:
            shape = self._output_of([layer], self._shape)
            layer.build(self._shape)
            self._shape = shape
        self.layers.append(layer)

    def pop(self, rebuild: bool = True) -> Layer:
        """Take the last layer off."""
        if not self.layers:
            raise ValueError("[Sequential] pop: expected at least one layer, got none")
        layer = self.layers.pop()
        if self._input_shape is not None:
            self._shape = self._output_of(self.layers, self._input_shape)
        return layer

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name, or at that index; ValueError if there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"[get_layer] name: expected either name or index, got {name!r} and {index!r}")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"[get_layer] index: expected less than {len(self.layers)}, got {index}")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"[get_layer] name: expected one of {[layer.name for layer in self.layers]}, got {name!r}")

    def _output_of(self, layers: Sequence[Layer], shape: Any) -> Any:
        """The shape that comes out of `layers` for inputs of `shape`; each layer checks what it is given."""
        for layer in layers:
            if isinstance(shape, list):
                raise ValueError(f"[Sequential] {layer.name}: expected one input, got {len(shape)} of the layer before")
            layer._check_shape(shape)
            shape = layer.compute_output_shape(shape)
        return shape

    # ---- building and running -------------------------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Do all layers have their weights?"""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Make the weights for inputs of `input_shape`, batch first (None where open)."""
        if not self.layers:
            raise ValueError("[Sequential] build: expected at least one layer, got none")
        shape: Any = self._input_shape if input_shape is None else tuple(input_shape)
        if shape is None:
            raise ValueError("[Sequential] input_shape: expected a shape, batch first, got None")
        # a shape that does not fit must not leave half a model
        self._output_of(self.layers, shape)
        for layer in self.layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        if self._input_shape is None:
            self._input_shape = None if input_shape is None else tuple(input_shape)
        self._shape = shape

    @property
    def input_shape(self) -> Shape:
        """The shape of the input, batch first, None where open. AttributeError before it is known."""
        shape: Shape = self._known_shape(self._input_shape)
        return shape

    @property
    def output_shape(self) -> Any:
        """The shape of the output, likewise."""
        return self._known_shape(self._shape if self.built else None)

    def _known_shape(self, shape: Any) -> Any:
        if shape is None:
            raise AttributeError("[Sequential] shape: expected a built model, got one that does not know its input")
        return shape

    @property
    def fixed_batch_size(self) -> int | None:
        """The batch size stateful layers were made for; None if there are none."""
        if not any(layer.stateful for layer in self.layers):
            return None
        return None if self._input_shape is None else self._input_shape[0]

    def convert_input(self, op: str, x: Array) -> Array:
        """`x` in the dtype the first layer takes; ids are checked against the table here, all at once."""
        if not self.layers:
            raise ValueError(f"[{op}] model: expected at least one layer, got none")
        first = self.layers[0]
        x = first._as_input(x)
        if isinstance(first, Embedding) and x.size:
            low, high, limit = x.min(), x.max(), first.input_dim
            if low < 0 or high >= limit:
                raise ValueError(f"[{op}] x: expected ids from 0 to {limit - 1} for {first.name}, got {low} to {high}")
            if limit <= 2**31:
                x = x.astype(np.int32, copy=False)
        return x

    def infer_shape(self, op: str, x: Array) -> Any:
        """The shape of the output for `x`; builds the model if need be."""
        shape = (self.fixed_batch_size if self.built else None, *x.shape[1:])
        if self.built:
            return self._output_of(self.layers, shape)
        self.build(self._input_shape or shape)
        return self._output_of(self.layers, (self.fixed_batch_size, *x.shape[1:]))

    def run(self, x: Array, training: bool) -> tuple[Any, Array | None]:
        """The output for a batch of the right dtype, and its mask."""
        mask: Array | None = None
        for layer, after in zip(self.layers, [*self.layers[1:], None], strict=True):
            forward = layer.forward_tokens if _passes_tokens(layer, after) else layer.forward  # type: ignore[attr-defined]
            y = forward(x, training=training, mask=mask)
            mask = layer.compute_mask(mask)
            x = y
        return x, mask

    def __call__(self, x: Any, training: bool = False) -> Any:
        """The output for `x` (B, ...), an array or nested lists."""
        x = self.convert_input("call", np.asarray(as_array("call", "x", x)))
        self.infer_shape("call", x)
        return self.run(x, training)[0]

    def freeze(self, precision: str | None = None, *, fold_embedding: bool | None = None) -> FrozenModel:
        """The model as it is now, for prediction only and faster, above all for few rows: see `FrozenModel`.

        precision: of the recurrent weights, None (that of the model), "bfloat16" or "int8" (`functional.pack_weights`
        says what these cost and where they pay). fold_embedding: fold an embedding into the recurrent layer after it;
        None does so up to a table of 256 MB.
        """
        return FrozenModel(self, precision, fold_embedding=fold_embedding)

    def reset_states(self) -> None:
        """Forget the states of stateful layers."""
        for layer in self.layers:
            layer.reset_states()

    # ---- weights --------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Variable]:
        """All variables, in Keras's order."""
        return [v for layer in self.layers for v in layer.weights]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables that move in training."""
        return [v for layer in self.layers for v in layer.trainable_weights]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other variables."""
        return [v for layer in self.layers for v in layer.non_trainable_weights]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Does any layer train? Setting it sets that of every layer."""
        return any(layer.trainable for layer in self.layers) or not self.layers

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def named_weights(self) -> dict[str, Variable]:
        """Variables by "layer/variable", in the order of `get_weights`."""
        named: dict[str, Variable] = {}
        for layer in self.layers:
            for v in layer.weights:
                key, again = f"{layer.name}/{v.name}", 0
                while key in named:  # a user's layer may call two of its weights alike
                    again += 1
                    key = f"{layer.name}/{v.name}_{again}"
                named[key] = v
        return named

    def get_weights(self) -> list[npt.NDArray[Any]]:
        """Copies of all weights, in Keras's order and layouts."""
        return [v.value.copy() for v in self.weights]

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        """Take weights as `get_weights` gives them. All are checked before any is written."""
        variables = self.weights
        arrays = checks.arrays("set_weights", "weights", weights)
        if len(arrays) != len(variables):
            raise ValueError(f"[set_weights] weights: expected {len(variables)} arrays, got {len(arrays)}")
        for v, array in zip(variables, arrays, strict=True):
            if array.shape != v.shape:
                raise ValueError(f"[set_weights] {v.name}: expected shape {v.shape}, got {array.shape}")
            if array.dtype.kind not in "fiub":
                raise TypeError(f"[set_weights] {v.name}: expected numbers, got dtype {array.dtype}")
        for v, array in zip(variables, arrays, strict=True):
            v.assign(array)

    def count_params(self) -> int:
        """The number of weights. ValueError before they exist."""
        if not self.built:
            raise ValueError("[Sequential] count_params: expected a built model, got one without weights")
        return sum(v.size for v in self.weights)

    # ---- description ----------------------------------------------------------------------------------------------

    def summary(
        self, line_length: int | None = None, positions: Any = None, print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False, show_trainable: bool = False, layer_range: Any = None,
    ) -> None:  # fmt: skip
        """Print a table of the layers with their output shapes and numbers of parameters."""
        rows = [("Layer (type)", "Output Shape", "Param #", "Trainable")]
        shape: Any = self._input_shape
        for layer in self.layers:
            shape = None if shape is None else layer.compute_output_shape(shape)
            count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
            shown = "?" if shape is None else str(shape).replace("[", "").replace("]", "")
            rows.append((f"{layer.name} ({type(layer).__name__})", shown, count, "Y" if layer.trainable else "N"))
        if not show_trainable:
            rows = [row[:3] for row in rows]  # type: ignore[misc]
        widths = [max(len(row[k]) for row in rows) + 2 for k in range(len(rows[0]))]
        if line_length is not None and line_length > sum(widths):
            widths[0] += line_length - sum(widths)
        lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        total = sum(v.size for v in self.weights)
        trainable = sum(v.size for v in self.trainable_weights)
        text = [
            f'Model: "{self.name}"',
            "_" * sum(widths),
            lines[0],
            "=" * sum(widths),
            *lines[1:],
            "=" * sum(widths),
            f"Total params: {total:,}",
            f"Trainable params: {trainable:,}",
            f"Non-trainable params: {total - trainable:,}",
            "_" * sum(widths),
        ]
        (print_fn or print)("\n".join(text))

    def get_config(self) -> dict[str, Any]:
        """Name, layers and input shape as JSON values; `from_config` gives an equal model without its weights."""
        entries = [] if self._input is None else [serialize(self._input)]
        return {
            "name": self.name,
            "layers": entries + [serialize(layer) for layer in self.layers],
            "build_input_shape": None if self._input_shape is None else list(self._input_shape),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Sequential:
        """A model from what `get_config` gave, without its weights. `custom_objects`: your layer classes by name."""
        model = cls(name=config.get("name"))
        for entry in config["layers"]:
            model.add(deserialize(entry, custom_objects))
        shape = config.get("build_input_shape")
        if shape is not None and model.layers and not model.built:
            model.build(shape)
        return model

    def to_json(self, **options: Any) -> str:
        """`get_config` as JSON; `model_from_json` reads it. `options` go to `json.dumps`."""
        return json.dumps({"class_name": "Sequential", "config": self.get_config()}, **options)

    # ---- files ----------------------------------------------------------------------------------------------------

    def save(
        self, filepath: str | os.PathLike[str], extra: dict[str, str] | None = None, *, overwrite: bool = True,
        include_optimizer: bool = True,
    ) -> None:  # fmt: skip
        """Write the whole model to one safetensors file, atomically. `extra`: strings kept with it beside `.extra`."""
        saving.save_model(self, filepath, extra, overwrite=overwrite, include_optimizer=include_optimizer)

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the weights alone."""
        saving.save_weights(self, filepath, overwrite=overwrite)

    def load_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Take the weights of a file of `save_weights` or `save`; all is checked before anything is overwritten."""
        saving.load_weights(self, filepath)

    def export(self, filepath: str | os.PathLike[str], format: str = "onnx", *, padding: str = "any") -> None:
        """Write the model to an .onnx file, batch and time axes open, for prediction (dropout is left out).

        Needs the extra `onnx`. padding: where masked steps (`mask_zero`, Masking) may be. "any": anywhere, gaps
        included; the graph moves the valid steps of each row to the front and the outputs back. "post": only at the end
        of a row, which is promised and not checked; recurrent nodes then take the lengths alone.

        Raises `fastrnn.onnx.Unsupported`, a ValueError that names the layer, for what ONNX does not have.
        """
        if format != "onnx":
            raise ValueError(f"[export] format: expected 'onnx', got {format!r}")
        from . import onnx

        onnx.export(self, filepath, padding=padding)

    def __repr__(self) -> str:
        return f"<Sequential name={self.name} layers={[layer.name for layer in self.layers]}>"


_TOKEN_LAYERS = (Conv1D, SimpleRNN, LSTM, GRU, Bidirectional)  # the layers that take Tokens in place of an array


def _passes_tokens(layer: Layer, after: Layer | None) -> bool:
    """Can `after` work on the distinct tokens of `layer`? Only the classes themselves: heirs may look at the arrays."""
    if type(layer) is not Embedding or layer.activity_regularizer is not None:
        return False
    readers = [after.forward_layer, after.backward_layer] if isinstance(after, Bidirectional) else [after]
    if all(getattr(reader, "folded", False) for reader in readers):
        return True
    return all(type(reader) in _TOKEN_LAYERS for reader in [after, *readers])


def save_model(model: Sequential, filepath: str | os.PathLike[str], **options: Any) -> None:
    """`model.save(filepath, ...)`."""
    model.save(filepath, **options)


def load_model(
    filepath: str | os.PathLike[str], custom_objects: dict[str, Any] | None = None, compile: bool = True
) -> Sequential:
    """The model in a file of `save`, compiled as it was (unless `compile=False`); `.extra` holds the saved strings."""
    model: Sequential = saving.load_model(filepath, custom_objects, compile=compile)
    return model


def model_from_json(text: str, custom_objects: dict[str, Any] | None = None) -> Sequential:
    """A model from what `to_json` wrote, without its weights."""
    config = json.loads(text)
    return Sequential.from_config(config["config"], custom_objects)


def clone_model(model: Sequential) -> Sequential:
    """A model of the same layers with fresh weights."""
    if not isinstance(model, Sequential):
        raise TypeError(f"[clone_model] model: expected a Sequential, got {model!r}")
    return Sequential.from_config(model.get_config())
