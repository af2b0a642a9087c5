"""patch and unpatch: which of Keras's functions are replaced, and when each of them goes Keras's own way.

Keras's LSTM and GRU ask `backend.lstm` and `backend.gru` first, where cuDNN sits on other devices, and go on to
`RNN.inner_loop` if that raises NotImplementedError: with a mask, say. SimpleRNN, and RNN around a cell, start there.
These three are the hooks. What the kernels cannot do is handed to the function that was there before, with the
arguments as they came.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

from .engines import Engine, NumpyEngine, Unsupported
from .recurrence import Recurrence

_BACKENDS = ("numpy", "torch")
# names of keras.activations that mean the same as ours
_ACTIVATIONS = (
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "relu", "selu", "sigmoid", "silu", "softplus",
    "softsign", "tanh",
)  # fmt: skip

_active: _Hooks | None = None


class Patch:
    """What `patch` returns; as a context manager it takes the hooks out at the end, if it was this call that set them.

    `calls`: how often each kind of layer ("lstm", "gru", "rnn") ran on fastrnn's kernels. `fallbacks`: how often, and
    why, Keras's own path was taken. Both count from the moment the hooks were set.
    """

    def __init__(self, hooks: _Hooks, owner: bool) -> None:
        self._hooks, self._owner = hooks, owner

    @property
    def calls(self) -> Counter[str]:
        return self._hooks.calls

    @property
    def fallbacks(self) -> Counter[str]:
        return self._hooks.fallbacks

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *error: object) -> None:
        if self._owner and _active is self._hooks:
            unpatch()


def patch() -> Patch:
    """Let Keras's recurrent layers run on fastrnn's kernels: SimpleRNN, LSTM, GRU and RNN around one of their cells.

    Keras must run on its numpy or torch backend (chosen by KERAS_BACKEND before keras is imported). float32 and
    float64 on the CPU; results and gradients agree with Keras's to rounding. Where a layer asks for something else
    (float16, an unknown activation, a GPU, `use_cudnn=False` ...) Keras's own path is taken. Setting the hooks twice
    changes nothing.

    Returns:
        Patch, a context manager with counters of what was run.

    Raises:
        ImportError: Keras or its backend is missing.
        RuntimeError: Keras runs on another backend, or has none of these hooks.
    """
    global _active
    if _active is not None:
        return Patch(_active, False)
    try:
        keras = importlib.import_module("keras")
        backend = importlib.import_module("keras.src.backend")
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "keras":
            raise  # Keras is there, what it runs on is not
        raise ImportError("[fastrnn.keras] needs Keras: pip install 'fastrnn[keras]'") from None
    name = keras.config.backend()
    if name not in _BACKENDS:
        raise RuntimeError(
            f"[fastrnn.keras.patch] backend: expected numpy or torch, got {name}, whose layers are traced into graphs "
            "that cannot call kernels on arrays in memory; set KERAS_BACKEND=torch before keras is imported"
        )
    hooks = _Hooks(keras, backend, name)
    hooks.set()
    _active = hooks
    return Patch(hooks, True)


def unpatch() -> None:
    """Take the hooks out; Keras is as it was before `patch`. Nothing happens if they are not set.

    Raises:
        RuntimeError: somebody else has replaced one of them since.
    """
    global _active
    if _active is not None:
        _active.restore()
        _active = None


class _Hooks:
    """The three replacements, and what they replaced."""

    def __init__(self, keras: Any, backend: Any, name: str) -> None:
        layers = keras.layers
        self.calls: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self._cells = {layers.SimpleRNNCell: "rnn", layers.LSTMCell: "lstm", layers.GRUCell: "gru"}
        self._activations = _known_activations(keras)
        self._places = ((backend, "lstm"), (backend, "gru"), (layers.RNN, "inner_loop"))
        missing = [f"{place.__name__}.{what}" for place, what in self._places if not hasattr(place, what)]
        if missing:
            raise RuntimeError(
                f"[fastrnn.keras.patch] keras: expected a Keras 3 with {', '.join(missing)}, got {keras.__version__}"
            )
        self._originals = tuple(getattr(place, what) for place, what in self._places)
        self._engine: Engine = NumpyEngine(backend.convert_to_tensor)
        if name == "torch":
            from .torch_engine import TorchEngine

            self._engine = TorchEngine(backend.convert_to_tensor)
        # functions, not bound methods: RNN.inner_loop is to become a method of RNN
        self._hooks = (self._lstm(), self._gru(), self._inner_loop())

    def set(self) -> None:
        for (place, what), hook in zip(self._places, self._hooks, strict=True):
            setattr(place, what, hook)

    def restore(self) -> None:
        for (place, what), hook in zip(self._places, self._hooks, strict=True):
            if getattr(place, what) is not hook:
                raise RuntimeError(
                    f"[fastrnn.keras.unpatch] {place.__name__}.{what}: expected the hook that patch set, got another, "
                    "set after it; take that out first"
                )
        for (place, what), original in zip(self._places, self._originals, strict=True):
            setattr(place, what, original)

    # ---- the hooks ------------------------------------------------------------------------------------------------

    def _lstm(self) -> Any:
        original = self._originals[0]

        def lstm(
            inputs: Any, initial_state_h: Any, initial_state_c: Any, mask: Any, kernel: Any, recurrent_kernel: Any,
            bias: Any, activation: Any, recurrent_activation: Any, return_sequences: bool = False,
            go_backwards: bool = False, unroll: bool = False, **more: Any,
        ) -> Any:  # fmt: skip
            try:
                self._plain(mask, more)
                options = self._options(activation, recurrent_activation)
                recurrence = Recurrence("lstm", options, bool(go_backwards), bool(return_sequences))
                states = (initial_state_h, initial_state_c)
                return self._run(recurrence, inputs, (kernel, recurrent_kernel, bias), states)
            except Unsupported as reason:
                self._count("lstm", reason)
            return original(
                inputs, initial_state_h, initial_state_c, mask, kernel=kernel, recurrent_kernel=recurrent_kernel,
                bias=bias, activation=activation, recurrent_activation=recurrent_activation,
                return_sequences=return_sequences, go_backwards=go_backwards, unroll=unroll, **more,
            )  # fmt: skip

        return lstm

    def _gru(self) -> Any:
        original = self._originals[1]

        def gru(
            inputs: Any, initial_state: Any, mask: Any, kernel: Any, recurrent_kernel: Any, bias: Any, activation: Any,
            recurrent_activation: Any, return_sequences: bool = False, go_backwards: bool = False,
            unroll: bool = False, reset_after: bool = True, **more: Any,
        ) -> Any:  # fmt: skip
            try:
                self._plain(mask, more)
                options = {**self._options(activation, recurrent_activation), "reset_after": bool(reset_after)}
                recurrence = Recurrence("gru", options, bool(go_backwards), bool(return_sequences))
                return self._run(recurrence, inputs, (kernel, recurrent_kernel, bias), (initial_state,))
            except Unsupported as reason:
                self._count("gru", reason)
            return original(
                inputs, initial_state, mask, kernel=kernel, recurrent_kernel=recurrent_kernel, bias=bias,
                activation=activation, recurrent_activation=recurrent_activation, return_sequences=return_sequences,
                go_backwards=go_backwards, unroll=unroll, reset_after=reset_after, **more,
            )  # fmt: skip

        return gru

    def _inner_loop(self) -> Any:
        original = self._originals[2]

        def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            kind = self._cells.get(type(layer.cell))
            try:
                return self._layer(kind, layer, sequences, initial_state, mask, bool(training))
            except Unsupported as reason:
                self._count(kind or type(layer.cell).__name__, reason)
            return original(layer, sequences, initial_state, mask=mask, training=training)

        return inner_loop

    # ---- what they share ------------------------------------------------------------------------------------------

    def _count(self, kind: str, reason: Unsupported) -> None:
        if str(reason):  # else the call is only passed on to the next hook
            self.fallbacks[f"{kind}: {reason}"] += 1

    def _plain(self, mask: Any, more: dict[str, Any]) -> None:
        """`backend.lstm` and `gru` are not told what masked steps give: that is left to `RNN.inner_loop`."""
        if mask is not None:
            raise Unsupported
        if more.get("batch_first", True) is not True or set(more) - {"batch_first"}:
            raise Unsupported(f"arguments {sorted(more)}")

    def _layer(
        self, kind: str | None, layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool
    ) -> Any:
        cell = layer.cell
        if kind is None:
            raise Unsupported("another cell")
        if getattr(layer, "use_cudnn", "auto") is False:
            raise Unsupported("use_cudnn=False")
        if mask is not None and layer.unroll:
            raise Unsupported("a mask with unroll=True")  # Keras has rules of its own for these
        if cell.compute_dtype != layer.compute_dtype:
            raise Unsupported("a cell of another dtype than its layer")
        if isinstance(sequences, (list, tuple, dict)) or isinstance(mask, (list, tuple, dict)):
            raise Unsupported("nested inputs")
        options = self._options(cell.activation, getattr(cell, "recurrent_activation", None))
        if kind == "gru":
            options["reset_after"] = bool(cell.reset_after)
        recurrent_mask = None
        if training and cell.recurrent_dropout:
            if kind != "rnn":
                raise Unsupported("recurrent_dropout")  # Keras has a mask for each gate, the kernels have one for all
            state = initial_state[0] if isinstance(initial_state, (list, tuple)) else initial_state
            recurrent_mask = cell.get_recurrent_dropout_mask(state)
        if training and cell.dropout:
            dropout = cell.get_dropout_mask(sequences[:, 0, :])
            if isinstance(dropout, list):
                raise Unsupported("dropout with implementation=1")  # a mask for each gate again
            sequences = sequences * dropout[:, None]
        states = list(initial_state) if isinstance(initial_state, (list, tuple)) else [initial_state]
        recurrence = Recurrence(
            kind, options, bool(layer.go_backwards), bool(layer.return_sequences), bool(layer.zero_output_for_mask),
            self._engine.holds_initial,
        )  # fmt: skip
        return self._run(recurrence, sequences, (cell.kernel, cell.recurrent_kernel, cell.bias), states, mask,
                         recurrent_mask)  # fmt: skip

    def _run(
        self, recurrence: Recurrence, x: Any, weights: Any, states: Any, mask: Any = None, recurrent_mask: Any = None
    ) -> Any:
        """(last output, outputs, states) as Keras wants them; without return_sequences there is one output."""
        y, finals = self._engine.run(recurrence, x, weights, states, mask, recurrent_mask)
        self.calls[recurrence.cell] += 1
        return (y[:, -1], y, finals) if recurrence.return_sequences else (y, y[:, None], finals)

    def _options(self, activation: Any, recurrent_activation: Any) -> dict[str, Any]:
        options: dict[str, Any] = {}
        given = {"activation": activation, "recurrent_activation": recurrent_activation}
        for what, function in given.items():
            if function is None:
                continue
            if id(function) not in self._activations:
                raise Unsupported(f"{what} {getattr(function, '__name__', type(function).__name__)}")
            options[what] = self._activations[id(function)][0]
        return options


def _known_activations(keras: Any) -> dict[int, tuple[str, Any]]:
    """id of a function -> our name (and the function, so that it lives). By identity: a name may be anybody's."""
    known: dict[int, tuple[str, Any]] = {}
    for module, names in ((keras.activations, _ACTIVATIONS), (keras.ops, ("tanh", "sigmoid"))):
        for name in names:
            function = getattr(module, name, None)
            if function is not None:
                known[id(function)] = (name, function)
    return known
