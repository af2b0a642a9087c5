"""Models and weights in one safetensors file: tensors "layer/variable", everything else as JSON in its metadata.

Nothing in a file is executed: classes are looked up by name among fastrnn's own. A file is read whole and checked
(header, configuration, names, shapes, dtypes) before a model is made or a weight overwritten; it is written to a
temporary file in the same folder that then takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .layers.base import Layer

VERSION = 1
MODEL, WEIGHTS = "model", "weights"
# the one key of the metadata; with several the file would differ from run to run, as safetensors does not order them
_KEY = "fastrnn"
# tensors of the optimizer; no layer has a name with a slash, and none may be called this
_OPTIMIZER = "optimizer"
_FOREIGN = (".h5", ".hdf5", ".keras", ".pb", ".tf", ".pt", ".pth", ".pkl", ".onnx")

Array = npt.NDArray[Any]


def _as_path(op: str, arg: str, path: Any) -> str:
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str) or not os.fspath(path):
        raise TypeError(f"[{op}] {arg}: expected a path, got {path!r}")
    if "\0" in os.fspath(path):
        raise ValueError(f"[{op}] {arg}: expected a path without null bytes, got {path!r}")
    return os.fspath(path)


def check_suffix(op: str, path: str | os.PathLike[str], arg: str = "filepath") -> str:
    """Refuse names that promise another format."""
    path = _as_path(op, arg, path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _FOREIGN:
        raise ValueError(
            f"[{op}] {arg}: expected a name for a fastrnn (safetensors) file such as "
            f"{os.path.splitext(os.path.basename(path))[0]}.safetensors, got {path!r}"
        )
    return path


# ---- writing ------------------------------------------------------------------------------------------------------


def _write(op: str, path: str, tensors: dict[str, Array], header: dict[str, Any], overwrite: bool) -> None:
    from safetensors.numpy import save

    if not overwrite and os.path.exists(path) and not os.path.isdir(path):
        raise FileExistsError(f"[{op}] filepath: expected a new file (overwrite=False), got {path!r}, which exists")
    try:
        text = json.dumps({"version": VERSION, **header})
    except (TypeError, ValueError) as error:
        raise ValueError(f"[{op}] config: expected JSON values, got {error}") from None
    data = save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, {_KEY: text})
    replace_file(op, path, data)


def replace_file(op: str, path: str, data: bytes) -> None:
    """Write a file that is there whole or not at all: a temporary one in the same folder takes its place."""
    if os.path.isdir(path):
        raise ValueError(f"[{op}] filepath: expected a file, got the folder {path!r}")
    path = os.path.realpath(path)  # a link keeps pointing, its target is replaced
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"[{op}] filepath: expected an existing folder, got {folder!r}")
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _weights(op: str, model: Any) -> dict[str, Array]:
    if not model.built:
        raise ValueError(f"[{op}] model: expected a built model, got one without weights")
    if any(layer.name == _OPTIMIZER for layer in model.layers):
        raise ValueError(f"[{op}] name: expected a layer name other than {_OPTIMIZER!r}, got it")
    return {key: v.value for key, v in model.named_weights().items()}


def save_model(
    model: Any,
    path: str | os.PathLike[str],
    extra: dict[str, str] | None = None,
    *,
    overwrite: bool = True,
    include_optimizer: bool = True,
) -> None:
    """See `Sequential.save`."""
    op = "save"
    path = check_suffix(op, path)
    if extra is not None and not isinstance(extra, dict):
        raise TypeError(f"[{op}] extra: expected a dictionary of strings, got {type(extra).__name__}")
    extra = {**model.extra, **(extra or {})}
    for key, value in extra.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"[{op}] extra: expected strings, got {key!r}: {type(value).__name__}")
    tensors = _weights(op, model)
    order = list(tensors)
    config: dict[str, Any] = {
        "model": _without_arrays(model.get_config()),
        "trainable": _trainable(model.layers),
    }
    compiled = model._compiled
    if compiled is not None:
        try:
            config["compile"] = compiled.get_config()
        except ValueError as error:
            warnings.warn(f"{error}; the model is saved without its compile arguments", stacklevel=3)
        else:
            if include_optimizer and compiled.optimizer.iterations:
                config["optimizer_state"] = compiled.optimizer.get_state()
                tensors.update(_slots(model))
    _write(op, path, tensors, {"format": MODEL, "order": order, "config": config, "extra": extra}, overwrite)


def _slots(model: Any) -> dict[str, Array]:
    optimizer = model.optimizer
    return {
        f"{_OPTIMIZER}/{key}/{slot}": array
        for key, v in model.named_weights().items()
        if v.trainable and optimizer.has_slots(v)
        for slot, array in optimizer.slots(v).items()
    }


def _trainable(layers: Any) -> dict[str, Any]:
    """The flags of layers inside layers, which their outer layer's configuration does not hold."""
    return {layer.name: [inner.trainable for inner in layer._sublayers()] for layer in layers if layer._sublayers()}


def _without_arrays(config: Any) -> Any:
    """Initial values given as arrays (pretrained embeddings) are not written: the weights are there already."""
    if isinstance(config, list):
        return [_without_arrays(item) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "Constant" and isinstance(config.get("config", {}).get("value"), list):
        return {"class_name": "Zeros", "config": {}}
    return {key: _without_arrays(value) for key, value in config.items()}


def save_weights(model: Any, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """See `Sequential.save_weights`."""
    path = check_suffix("save_weights", path)
    tensors = _weights("save_weights", model)
    _write("save_weights", path, tensors, {"format": WEIGHTS, "order": list(tensors)}, overwrite)


# ---- reading ------------------------------------------------------------------------------------------------------


def _refuse(op: str, path: str, got: str) -> NoReturn:
    raise ValueError(f"[{op}] {path}: expected a fastrnn model file, got {got}") from None


def _read(
    op: str, path: str | os.PathLike[str], formats: tuple[str, ...]
) -> tuple[str, dict[str, Array], dict[str, Any]]:
    """All tensors and the header of a file in one of `formats`."""
    path = _as_path(op, "filepath", path)
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.exists(path):
        raise FileNotFoundError(f"[{op}] {path}: expected a fastrnn model file, got no such file")
    if os.path.isdir(path):
        _refuse(op, path, "a folder")
    if suffix in _FOREIGN:
        words = (
            "fastrnn.load_keras reads it" if suffix == ".keras" else "load it where it was written, and use set_weights"
        )
        _refuse(op, path, f"a {suffix} file ({words})")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header = _header(op, path, (file.metadata() or {}).get(_KEY), formats)
            tensors = {key: np.array(file.get_tensor(key)) for key in file.keys()}
    except SafetensorError as error:
        _refuse(op, path, f"something else or a damaged file ({error})")
    except (OSError, TypeError, AttributeError, KeyError, OverflowError, MemoryError) as error:
        _refuse(op, path, f"a file that cannot be read ({type(error).__name__}: {error})")
    for key, tensor in tensors.items():
        if tensor.dtype not in (np.float32, np.float64):
            _refuse(op, path, f"tensor {key!r} of dtype {tensor.dtype}")
    return path, tensors, header


def _header(op: str, path: str, text: str | None, formats: tuple[str, ...]) -> dict[str, Any]:
    """The checked header: what every file must have, and the parts a model has."""
    if text is None:
        _refuse(op, path, "a safetensors file of another program")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        _refuse(op, path, "metadata that is not JSON of the right kind")
    if header.get("version") != VERSION:
        _refuse(op, path, f"version {header.get('version')!r} of the format (known: {VERSION})")
    if header.get("format") not in formats:
        _refuse(op, path, f"a file of {header.get('format')!r}".replace("'", ""))
    parts: dict[str, type] = {"order": list}
    if header["format"] == MODEL:
        parts |= {"config": dict, "extra": dict}
    for key, kind in parts.items():
        if not isinstance(header.get(key), kind):
            _refuse(op, path, f"no {key!r} of its metadata")
    if not all(isinstance(text, str) for text in (*header["order"], *header.get("extra", {}).values())):
        _refuse(op, path, "names or extra strings that are none")
    return header


def _check_tensors(op: str, path: str, model: Any, tensors: dict[str, Array]) -> None:
    """Names, shapes and dtypes of the weights are those of the model."""
    named = model.named_weights()
    missing = [key for key in named if key not in tensors]
    unknown = [key for key in tensors if key not in named and not key.startswith(f"{_OPTIMIZER}/")]
    if missing:
        _refuse(op, path, f"no tensor {missing[0]!r}")
    if unknown:
        _refuse(op, path, f"an unknown tensor {unknown[0]!r}")
    for key, v in named.items():
        array = tensors[key]
        if array.shape != v.shape or array.dtype != v.dtype:
            _refuse(op, path, f"tensor {key!r} of shape {array.shape}, {array.dtype}, not {v.shape}, {v.dtype}")


@contextlib.contextmanager
def _no_larger_than(layers: list[Layer], limit: int) -> Iterator[None]:
    """While this lasts the layers make weights of zeros, at most `limit` numbers in all: a file's claims are not
    believed."""
    every = list(_with_inner(layers))
    made = 0

    def guarded(original: Any) -> Any:
        def add_weight(name: str, shape: tuple[int, ...], initializer: Any, **options: Any) -> Any:
            nonlocal made
            size = 1
            for extent in shape:
                size *= extent
            made += size
            if made > limit:
                raise ValueError(f"weight {name!r} of shape {shape}, more than the whole file")
            return original(name, shape, "zeros", **options)

        return add_weight

    for layer in every:
        layer.add_weight = guarded(layer.add_weight)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in every:
            del layer.add_weight


def _with_inner(layers: Any) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        yield from _with_inner(layer._sublayers())


def load_model(
    path: str | os.PathLike[str], custom_objects: dict[str, Any] | None = None, *, compile: bool = True
) -> Any:
    """See `models.load_model`."""
    from .layers import deserialize
    from .models import Sequential
    from .training.compiled import Compiled

    op = "load_model"
    path, tensors, header = _read(op, path, (MODEL,))
    config = header["config"]
    size = sum(tensor.size for tensor in tensors.values())
    try:
        described = config["model"]
        if any("weights" in entry["config"] for entry in described["layers"]):
            raise ValueError("weights in the configuration of a layer")
        layers = [deserialize(entry, custom_objects) for entry in described["layers"]]
        shape = described["build_input_shape"]
        with _no_larger_than(layers, size):
            model = Sequential(name=described["name"])
            for layer in layers:
                model.add(layer)
            if not model.built:
                model.build(shape)
        for layer in model.layers:
            flags = config.get("trainable", {}).get(layer.name, [])
            for inner, flag in zip(layer._sublayers(), flags, strict=False):
                inner.trainable = flag
    except Exception as error:  # whatever a layer says of arguments nobody vouches for
        _refuse(op, path, f"a configuration that makes no model ({type(error).__name__}: {error})")
    _check_tensors(op, path, model, tensors)
    for key, v in model.named_weights().items():
        v.value[...] = tensors[key]
    model.extra = header["extra"]
    if compile and "compile" in config:
        try:
            model._compiled = Compiled.from_config(config["compile"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _refuse(op, path, f"compile arguments that cannot be used ({type(error).__name__}: {error})")
        _restore_optimizer(op, path, model, tensors, config.get("optimizer_state"))
    return model


def _restore_optimizer(op: str, path: str, model: Any, tensors: dict[str, Array], state: Any) -> None:
    """Put the optimizer's numbers and arrays back; all of them are checked before any is written."""
    if state is None:
        return
    optimizer, named = model.optimizer, model.named_weights()
    found: dict[str, dict[str, Array]] = {}
    for name, array in tensors.items():
        if name.startswith(f"{_OPTIMIZER}/"):
            key, _, slot = name[len(_OPTIMIZER) + 1 :].rpartition("/")
            if key not in named:
                _refuse(op, path, f"the optimizer tensor {name!r} of a weight that the file has not")
            found.setdefault(key, {})[slot] = array
    for key, arrays in found.items():
        v, slots = named[key], optimizer.initial_slots(named[key])
        if arrays.keys() != slots.keys() or any(a.shape != v.shape or a.dtype != v.dtype for a in arrays.values()):
            _refuse(op, path, f"optimizer tensors {sorted(arrays)} of {key!r}, not {sorted(slots)} of shape {v.shape}")
    try:
        optimizer.set_state(state)
    except (TypeError, ValueError, AttributeError) as error:
        _refuse(op, path, f"an optimizer state that cannot be used ({type(error).__name__}: {error})")
    for key, arrays in found.items():
        slots = optimizer.slots(named[key])
        for slot, array in arrays.items():
            slots[slot][...] = array


def load_weights(model: Any, path: str | os.PathLike[str]) -> None:
    """See `Sequential.load_weights`. By name; if the layers are called otherwise (lstm_1 for lstm), by position."""
    op = "load_weights"
    path, tensors, header = _read(op, path, (WEIGHTS, MODEL))
    if not model.built:
        raise ValueError(f"[{op}] model: expected a built model, got one without weights (call build or give an Input)")
    tensors = {key: array for key, array in tensors.items() if not key.startswith(f"{_OPTIMIZER}/")}
    tensors = _under_our_names(op, path, model, tensors, header["order"])
    _check_tensors(op, path, model, tensors)
    for key, v in model.named_weights().items():
        v.value[...] = tensors[key]


def _under_our_names(op: str, path: str, model: Any, tensors: dict[str, Array], order: list[str]) -> dict[str, Array]:
    """The file's tensors under the model's names: the file's own, or else the same variables in the same order."""
    weights = [key for key in tensors if not key.startswith(f"{_OPTIMIZER}/")]
    names = list(model.named_weights())
    if set(weights) == set(names):
        return tensors
    if sorted(order) != sorted(weights):
        _refuse(op, path, "a list of weights that is not that of its tensors")
    if len(order) != len(names):
        _refuse(op, path, f"{len(order)} weights, not {len(names)}")
    for theirs, ours in zip(order, names, strict=True):
        if theirs.split("/")[-1] != ours.split("/")[-1]:
            _refuse(op, path, f"the weight {theirs!r} where the model has {ours!r}")
    renamed = dict(zip(order, names, strict=True))
    result = {}
    for key, array in tensors.items():
        if key in renamed:
            result[renamed[key]] = array
            continue
        weight, _, slot = key[len(_OPTIMIZER) + 1 :].rpartition("/")
        if weight not in renamed:
            _refuse(op, path, f"the optimizer tensor {key!r} of a weight that the file has not")
        result[f"{_OPTIMIZER}/{renamed[weight]}/{slot}"] = array
    return result


def restore(model: Any, path: str | os.PathLike[str]) -> dict[str, str]:
    """Weights and optimizer state of a saved model into this one of the same layers; returns the saved strings.

    A file that does not fit changes nothing: neither weights nor the optimizer.
    """
    op = "restore"
    path, tensors, header = _read(op, path, (MODEL,))
    state = header["config"].get("optimizer_state")
    if not model.built:
        raise ValueError(f"[{op}] model: expected a built model, got one without weights (call build or give an Input)")
    if state is not None and model.optimizer is None:
        raise ValueError(f"[{op}] model: expected a compiled model, got one without compile(optimizer, loss)")
    tensors = _under_our_names(op, path, model, tensors, header["order"])
    _check_tensors(op, path, model, tensors)
    _restore_optimizer(op, path, model, tensors, state)  # refuses what does not fit, so before the weights
    for key, v in model.named_weights().items():
        v.value[...] = tensors[key]
    extra: dict[str, str] = header["extra"]
    return extra
