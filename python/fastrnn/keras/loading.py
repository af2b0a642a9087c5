"""`load`: a Keras model, from a `.keras` file or alive, as a fastrnn.Sequential with the same weights."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..layers import (
    Bidirectional,
    Embedding,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    TimeDistributed,
    Variable,
    deserialize,
)
from ..layers.recurrent import Recurrent
from ..saving import _as_path, _no_larger_than
from .archive import Refused, open_weights, read_archive
from .configs import Model, model_of

if TYPE_CHECKING:
    from ..models import Sequential

_OP = "load_keras"


def load(path_or_model: Any) -> Sequential:
    """A Keras 3 model as a `fastrnn.Sequential`: same layers, same weights, same predictions (to rounding).

    Where masks mean something else in Keras, at GlobalMaxPooling1D and behind `go_backwards`, the model is refused; the
    differences that remain (`unroll` with masks on Keras's numpy backend, means of rows without a valid step ...) are
    in docs/keras.md.

    Args:
        path_or_model: the path of a `.keras` file (read with h5py, without Keras), or a built keras.Sequential. A
            functional model is taken if its layers form one chain.

    Returns:
        A built Sequential. It is not compiled: call `compile` to go on training. Initializers are not carried over,
        and neither are optimizer states or the states of stateful layers.

    Raises:
        ValueError: a layer or option that fastrnn does not have, named with its place; a file that is no `.keras`
            file of Keras 3 or is damaged.
        TypeError: neither a path nor a Keras model.
        FileNotFoundError: no such file.
        ImportError: h5py is missing.
    """
    if not isinstance(path_or_model, (str, os.PathLike)):
        return _from_model(path_or_model)
    path = _as_path(_OP, "path_or_model", path_or_model)
    if not os.path.exists(path):
        raise FileNotFoundError(f"[{_OP}] {path}: expected a .keras file, got no such file")
    try:
        if os.path.isdir(path):
            raise Refused("expected a .keras file, got a folder (load it in Keras and save it as .keras)")
        if path.lower().endswith((".h5", ".hdf5")):
            raise Refused("expected a .keras file, got an HDF5 file (load it in Keras and save it as .keras)")
        config, data = read_archive(path)
        described = _described(config)
        model = _build(described, len(data))
        with open_weights(data) as file:
            for layer, (_, place, group) in zip(model.layers, _layers(described), strict=True):
                for inner, variables in _groups(layer):
                    try:
                        shapes = [v.shape for v in variables]
                        arrays = file.arrays("/".join([group, *inner]), shapes, layer.dtype)
                    except Refused as error:
                        raise Refused(f"{place}: {error}") from None
                    for variable, array in zip(variables, arrays, strict=True):
                        variable.assign(array)
        return model
    except Refused as error:
        raise ValueError(f"[{_OP}] {path}: {error}") from None


def _from_model(model: Any) -> Sequential:
    kind = type(model)
    if kind.__module__.partition(".")[0] != "keras" or not hasattr(model, "layers"):
        raise TypeError(f"[{_OP}] path_or_model: expected a path or a keras.Sequential, got {kind.__name__}")
    try:
        described = _described(json.loads(model.to_json()))
        made = _build(described, sum(w.size for w in model.get_weights()))
        for layer, (spec, place, _) in zip(made.layers, _layers(described), strict=True):
            try:
                layer.set_weights(model.get_layer(spec["config"]["name"]).get_weights())
            except (TypeError, ValueError) as error:
                raise Refused(f"{place}: {error}") from None
        return made
    except Refused as error:
        raise ValueError(f"[{_OP}] {kind.__name__} {model.name!r}: {error}") from None


def _described(config: Any) -> Model:
    """Whatever a configuration that no Keras has written does to its reader is said as what is wrong with the file."""
    try:
        return model_of(config)
    except Refused:
        raise
    except RecursionError:
        raise Refused("expected layers in few others, got them nested too deeply") from None
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        raise Refused(f"expected the configuration of a model, got a broken one ({words:.200})") from None


def _layers(described: Model) -> list[Any]:
    return [entry for entry in described.layers if entry.spec["class_name"] != "InputLayer"]


def _build(described: Model, limit: int) -> Sequential:
    """The model with weights of zeros, of `limit` numbers at most."""
    from ..models import Sequential

    layers: list[Layer] = []
    for entry in described.layers:
        with _at(entry.place):
            layers.append(deserialize(entry.spec))
    model = Sequential(name=described.name)
    with _no_larger_than(layers, limit):
        for layer, entry in zip(layers, described.layers, strict=True):
            with _at(entry.place):
                model.add(layer)
        if not model.built:
            if not described.input_shape:
                raise Refused("expected a built model, got one without weights (call it, or give it an Input)")
            with _at("the configuration"):
                model.build(described.input_shape)
    _check_masks(model.layers, [entry.place for entry in _layers(described)])
    return model


class _at:
    """Whatever a layer says of arguments nobody vouches for, with the layer's place."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, ImportError):
            words = f"{error}" if isinstance(error, ValueError) else f"{kind.__name__}: {error}"
            raise Refused(f"{self._place}: {words:.500}") from None  # the file's own words may be of any length


def _check_masks(layers: list[Layer], places: list[str]) -> None:
    """Where a mask means something else in Keras: a layer with go_backwards passes it on in the order of the input,
    which is not that of its output (fastrnn turns it round); GlobalMaxPooling1D takes masked steps for valid ones."""
    masked = False
    for index, (layer, place) in enumerate(zip(layers, places, strict=True)):
        if masked and isinstance(layer, GlobalMaxPooling1D):
            raise Refused(f"{place}: expected no mask from the layers before (Keras would leave it out), got one")
        if index == len(layers) - 1:
            return
        one = layer.forward_layer if isinstance(layer, Bidirectional) else layer
        if isinstance(one, Recurrent):
            masked = masked and one.return_sequences
            if masked and one.go_backwards:
                raise Refused(f"{place}: go_backwards: expected False between layers that pass on masks, got True")
        elif isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero):
            masked = True
        else:
            masked = masked and layer.supports_masking


def _groups(layer: Layer) -> Iterator[tuple[list[str], list[Variable]]]:
    """The groups in which Keras keeps the weights of a layer, below the layer's own, and the variables in each."""
    if isinstance(layer, Bidirectional):
        for name in ("forward_layer", "backward_layer"):
            yield from (([name, *rest], found) for rest, found in _groups(getattr(layer, name)))
    elif isinstance(layer, TimeDistributed):
        yield from ((["layer", *rest], found) for rest, found in _groups(layer.layer))
    elif layer.weights:
        yield ["cell"] if isinstance(layer, Recurrent) else [], layer.weights
