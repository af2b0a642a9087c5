"""Keras's description of a model -> descriptions of fastrnn layers. Classes are looked up in the table below, by name;
nothing that a file names is imported or called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..layers.variable import snake_case
from .archive import Refused

ACTIVATIONS = {
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "relu", "selu", "sigmoid", "silu", "softmax",
    "softplus", "softsign", "swish", "tanh",
}  # fmt: skip
_MOST_LAYERS = 1000
_MODELS = ("keras", "keras.models", "keras.src.models.sequential", "keras.src.models.functional")


class Described(NamedTuple):
    """One layer: for fastrnn.layers.deserialize, and where its weights are."""

    spec: dict[str, Any]
    # "layer 2 (LSTM 'lstm_1')", with its index in model.layers
    place: str
    # its group in the file of weights
    group: str


class Model(NamedTuple):
    name: str | None
    layers: list[Described]
    # batch first, where the file says it
    input_shape: Any


class _Class(NamedTuple):
    """A layer class of Keras: `takes` are the arguments that go to fastrnn's class of that name; `ignores` has those
    that change nothing here, or only if they have the given value."""

    takes: frozenset[str]
    ignores: dict[str, tuple[Any, ...] | None]
    # another description, where fastrnn has no class of that name
    becomes: Callable[[dict[str, Any]], tuple[str, dict[str, Any]]] | None = None


def _class(takes: str, *weights: str, becomes: Any = None, **only: tuple[Any, ...]) -> _Class:
    rules = [f"{w}_{rule}" for w in weights for rule in ("regularizer", "constraint")]
    ignores: dict[str, tuple[Any, ...] | None] = {f"{w}_initializer": None for w in weights}  # the weights are there
    return _Class(frozenset([*takes.split(), *rules, "activity_regularizer"]), {**ignores, **only}, becomes)


def _recurrent(more: str = "") -> _Class:
    names = (
        "units activation use_bias return_sequences return_state go_backwards stateful zero_output_for_mask dropout "
        f"recurrent_dropout seed {more}"
    )
    made = _class(names, "kernel", "recurrent", "bias")
    made.ignores.update({"unroll": None, "implementation": None, "use_cudnn": None, "time_major": (False,)})
    return made


def _activation(spec: Any) -> tuple[str, dict[str, Any]]:
    return "Activation", {"activation": spec}


_PLAIN: dict[str, tuple[Any, ...]] = {"quantization_config": (None,), "lora_rank": (None,), "lora_alpha": (None,)}
_POOL = "pool_size strides padding data_format"
_CLASSES: dict[str, _Class] = {
    "SimpleRNN": _recurrent(),
    "LSTM": _recurrent("recurrent_activation unit_forget_bias"),
    "GRU": _recurrent("recurrent_activation reset_after"),
    "Bidirectional": _class("layer backward_layer merge_mode"),
    "TimeDistributed": _class("layer"),
    "Embedding": _class("input_dim output_dim mask_zero", "embeddings", **_PLAIN, input_length=(None,)),
    "Conv1D": _class(
        "filters kernel_size strides padding data_format dilation_rate groups activation use_bias", "kernel", "bias",
        **_PLAIN,
    ),
    "Dense": _class("units activation use_bias", "kernel", "bias", **_PLAIN),
    "MaxPooling1D": _class(_POOL),
    "AveragePooling1D": _class(_POOL),
    "GlobalMaxPooling1D": _class("data_format keepdims"),
    "GlobalAveragePooling1D": _class("data_format keepdims"),
    "Dropout": _class("rate seed noise_shape"),
    "SpatialDropout1D": _class("rate seed", noise_shape=(None,), data_format=(None, "channels_last")),
    "Masking": _class("mask_value"),
    "Flatten": _class("", data_format=(None, "channels_last")),
    "Reshape": _class("target_shape"),
    "Permute": _class("dims"),
    "RepeatVector": _class("n"),
    "Activation": _class("activation"),
    "ReLU": _class("", max_value=(None,), negative_slope=(0,), threshold=(0,), becomes=lambda c: _activation("relu")),
    "LeakyReLU": _class("negative_slope", becomes=lambda c: _activation(("leaky_relu", c["negative_slope"]))),
    "ELU": _class("alpha", becomes=lambda c: _activation(("elu", c["alpha"]))),
    "InputLayer": _class("batch_shape", sparse=(False,), ragged=(False,), optional=(False,)),
}  # fmt: skip


def place_of(index: int, entry: Any) -> str:
    """How messages name a layer."""
    config = entry.get("config") if isinstance(entry, dict) else None
    name = config.get("name") if isinstance(config, dict) else None
    kind = entry.get("class_name") if isinstance(entry, dict) else None
    return f"layer {index} ({kind!s:.60} {name!r:.60})"


def model_of(config: Any) -> Model:
    """The layers of a Sequential model, or of a functional one whose layers form one chain."""
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise Refused("expected the configuration of a model, got something else")
    kind, inner = config.get("class_name"), config["config"]
    if kind not in ("Sequential", "Functional") or config.get("module") not in _MODELS:
        raise Refused(
            f"expected a Sequential model, or a functional one with one chain of layers, got {kind!s:.60} of "
            f"{config.get('module')!s:.60} (a class of its own cannot be read without its code)"
        )
    entries = inner.get("layers")
    if not isinstance(entries, list):
        raise Refused("expected a list of layers in the configuration, got none")
    if len(entries) > _MOST_LAYERS:
        raise Refused(f"expected at most {_MOST_LAYERS} layers, got {len(entries)}")
    if kind == "Functional":
        from .functional_chain import chain

        entries = chain(inner, entries)
    layers, counts, index = [], dict[str, int](), 0
    for entry in entries:
        place = place_of(index, entry)
        try:
            spec = _spec(entry)
        except Refused as error:
            raise Refused(f"{place}: {error}") from None
        is_input = entry["class_name"] == "InputLayer"
        group = snake_case(entry["class_name"])
        count = counts.get(group, 0)
        if not is_input:  # Keras numbers the classes of model.layers
            counts[group] = count + 1
            index += 1
        layers.append(Described(spec, "the input" if is_input else place, f"{group}_{count}" if count else group))
    built = config.get("build_config")
    shape = inner.get("build_input_shape") or (built.get("input_shape") if isinstance(built, dict) else None)
    name = inner.get("name")
    return Model(name if isinstance(name, str) else None, layers, shape)


def _spec(entry: Any) -> dict[str, Any]:
    """A layer in fastrnn's words."""
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
        raise Refused("expected a layer's configuration, got something else")
    kind, config = entry.get("class_name"), dict(entry["config"])
    registered = entry.get("registered_name")
    known = _CLASSES.get(kind) if isinstance(kind, str) else None
    if known is None or entry.get("module") != "keras.layers" or registered not in (None, kind):
        own = f", got a class of {entry.get('module')!s:.60}" if known is not None else f", got {kind!s:.60}"
        raise Refused(f"expected one of Keras's layers {', '.join(sorted(_CLASSES))}{own}")
    made = {key: config.pop(key) for key in ("name", "trainable") if key in config}
    dtype = _dtype(config.pop("dtype", None))
    if kind != "InputLayer" or dtype is not None:
        made["dtype"] = dtype
    arguments = dict(_arguments(known, config))
    if known.becomes is not None:
        try:
            kind, arguments = known.becomes(arguments)
        except KeyError as error:
            raise Refused(f"{error.args[0]}: expected a number, got none") from None
    return {"class_name": kind, "config": {**made, **arguments}}


def _arguments(known: _Class, config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in known.takes:
            yield key, _value(key, value)
        elif key not in known.ignores:
            if value is not None:
                raise Refused(f"{key:.60}: expected a known argument, got it with {value!r:.60}")
        elif (allowed := known.ignores[key]) is not None and value not in allowed:
            raise Refused(f"{key}: expected {' or '.join(map(repr, allowed))}, got {value!r:.60}")


def _value(key: str, value: Any) -> Any:
    if key in ("layer", "backward_layer"):
        if value is None:
            return None
        try:
            return _spec(value)
        except Refused as error:
            raise Refused(f"{key}: {error}") from None
    if key in ("activation", "recurrent_activation"):
        if not isinstance(value, str) or value not in ACTIVATIONS:
            got = value if isinstance(value, str) else "a function or layer of its own"
            raise Refused(f"{key}: expected one of {', '.join(sorted(ACTIVATIONS))}, got {got:.60}")
        return value
    if key.endswith(("_regularizer", "_constraint")) and value is not None:
        module = "keras.regularizers" if key.endswith("_regularizer") else "keras.constraints"
        if not isinstance(value, dict) or value.get("module") != module:
            raise Refused(f"{key}: expected one of {module}, got {value!r:.60}")
        return {"class_name": value.get("class_name"), "config": value.get("config")}
    if key == "seed":
        return value if isinstance(value, int) and value >= 0 else None  # the masks are others anyway
    return value


def _dtype(value: Any) -> Any:
    """The name of a dtype or of a dtype policy."""
    if isinstance(value, dict):
        config = value.get("config")
        value = config.get("name") if isinstance(config, dict) else None
        if value is None:
            raise Refused("dtype: expected float32 or float64, got a policy without a name")
    if value is not None and not isinstance(value, str):
        raise Refused(f"dtype: expected float32 or float64, got {value!r:.60}")
    return value
