"""SimpleRNN, LSTM and GRU with Keras's words, weights and behaviour, on the kernels of `functional`.

Not here: gate orders (gates.py), the equations (reference/recurrent.py), both directions at once (bidirectional.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import activations, initializers
from .. import functional as F
from ..functional.pairs import Call
from ..streaming import Stream
from . import checks, gates
from .base import Array, Layer, Shape
from .tokens import TokenGradient, Tokens
from .weights import WeightSpec

# Keras arguments that choose among its implementations, with what may be said; here they change nothing.
_WITHOUT_EFFECT = ("unroll", "implementation", "use_cudnn")


class Trace(NamedTuple):
    """What one training forward leaves for its backward."""

    workspace: Any
    # of the input as it came, for dropout's backward
    input_seed: int | None
    # the order of the output differs from that of the input
    flipped: bool
    # (B, T) in the order of the output: masked steps repeat the step before
    held: Array | None
    # (B,) rows whose last output is the final state; None: all
    last: Array | None
    # the input was `Tokens`, and so is its gradient
    tokens: bool


class Run(NamedTuple):
    """A forward call that is still to be made, and what is known about its result."""

    call: Call
    out: Array | None
    mask: Array | None
    carried: bool  # from an initial state
    training: bool
    input_seed: int | None
    flipped: bool
    tokens: bool


class Recurrent(Layer):
    """What SimpleRNN, LSTM and GRU have in common: x (B, T, I), mask (B, T) -> y (B, U) or (B, T, U).

    Weights, with G gates: kernel (I, G*U), recurrent_kernel (U, G*U), bias (G*U,), of a GRU with `reset_after`
    (2, G*U).

    Options, keyword only and as in Keras, with their defaults:

    Args:
        kernel_initializer, recurrent_initializer, bias_initializer: "glorot_uniform", "orthogonal" and "zeros".
        kernel_regularizer, kernel_constraint: and of recurrent and bias likewise; None.
        dropout, recurrent_dropout: rates in [0, 1), of the input and of h where it enters the recurrent product; one
            mask per batch, constant in time. 0.
        return_sequences: the output of every step, (B, T, U), rather than of the last, (B, U). False.
        return_state: a list [output, h] or [output, h, c], states (B, U). False.
        go_backwards: read the steps from the last to the first; outputs stand in the order of reading. False.
        stateful: start a batch where the one before it ended, see `reset_states`; the batch size is then fixed. False.
        zero_output_for_mask: masked steps give zeros rather than repeat the step before. False.
        seed: of the dropout masks; None.
        unroll, implementation, use_cudnn: accepted without effect.
        checkpoint: not in Keras: a number of steps, or True for about sqrt(T) of them: training keeps the states of
            every so many steps and computes the rest again in backward, with the same results, in less memory. None.
    """

    cell: ClassVar[str]
    gate_count: ClassVar[int]
    state_count: ClassVar[int] = 1
    _input_words = "(batch, time, features)"
    _input_rank = 3
    supports_masking = True

    def __init__(self, units: int, activation: Any, use_bias: bool, options: dict[str, Any]) -> None:
        op = type(self).__name__
        units = checks.positive_int(op, "units", units)
        self._kernel = WeightSpec.take(options, "kernel", "glorot_uniform")
        self._recurrent = WeightSpec.take(options, "recurrent", "orthogonal")
        self._bias = WeightSpec.take(options, "bias", "zeros")
        dropout = checks.rate(op, "dropout", options.pop("dropout", 0.0))
        recurrent_dropout = checks.rate(op, "recurrent_dropout", options.pop("recurrent_dropout", 0.0))
        flags = {
            name: checks.boolean(op, name, options.pop(name, False))
            for name in ("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask")
        }
        seed = checks.seed(op, "seed", options.pop("seed", None))
        checkpoint = checks.checkpoint(op, "checkpoint", options.pop("checkpoint", None))
        for name in _WITHOUT_EFFECT:
            options.pop(name, None)
        # This one would change the meaning of the axes, so it may only be said when it is false.
        if checks.boolean(op, "time_major", options.pop("time_major", False)):
            raise ValueError(f"[{op}] time_major: expected False (inputs are (batch, time, features)), got True")
        super().__init__(**options)
        self.units = units
        self.activation = activations.parse(activation)
        self.use_bias = checks.boolean(op, "use_bias", use_bias)
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.return_sequences, self.return_state = flags["return_sequences"], flags["return_state"]
        self.go_backwards, self.stateful = flags["go_backwards"], flags["stateful"]
        self.zero_output_for_mask = flags["zero_output_for_mask"]
        self.seed = seed
        self.checkpoint = checkpoint
        self._dropout_source = None if seed is None else np.random.default_rng(seed)
        # stateful: the states carried to the next batch, (B, U) each
        self.states: list[Array] | None = None
        self._batch: int | None = None
        self._given_state: list[Array] | None = None
        # PackedWeights, or a ProjectionTable of them: weights that are no longer trained
        self._frozen: Any = None
        # after a backward: the gradients of the initial states, where there were any
        self.grad_initial_state: list[Array | None] = [None] * self.state_count

    # ---- weights --------------------------------------------------------------------------------------------------

    def _build(self, input_shape: Shape) -> None:
        op, features = type(self).__name__, input_shape[-1]
        if features is None:
            raise ValueError(f"[{op}] input_shape: expected a known number of features, got {input_shape}")
        if self.stateful:
            if input_shape[0] is None:
                words = "a fixed batch size for stateful=True (batch_input_shape=(batch, time, features))"
                raise ValueError(f"[{op}] input_shape: expected {words}, got {input_shape}")
            self._batch = input_shape[0]
        wide = self.gate_count * self.units
        self.kernel = self.add_weight("kernel", (features, wide), self._kernel.initializer, **self._kernel.rules)
        shape = (self.units, wide)
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel", shape, self._recurrent.initializer, **self._recurrent.rules
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight("bias", self._bias_shape(), self._bias_initializer(), **self._bias.rules)
        self._last_dim = features

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.gate_count * self.units,)

    def _bias_initializer(self) -> Any:
        return self._bias.initializer

    # ---- running --------------------------------------------------------------------------------------------------

    def __call__(self, x: Any, initial_state: Any = None, *, mask: Any = None, training: bool = False) -> Any:
        """Run on `x` (B, T, I). `initial_state`: (B, U), or for LSTM a pair (h, c) of them."""
        x = self._as_input(x)
        self._check_shape(x.shape)
        if not self.built:
            self.build(x.shape if self.stateful else (None, *x.shape[1:]))
        return self.forward(x, training=training, mask=mask, initial_state=initial_state)

    def forward(self, x: Array, *, training: bool = False, mask: Array | None = None, initial_state: Any = None) -> Any:
        self._given_state = None if initial_state is None else self.check_state(initial_state, len(x))
        return super().forward(x, training=training, mask=mask)

    def check_state(self, state: Any, batch: int) -> list[Array]:
        """The initial states as a list of arrays (B, U) of the layer's dtype."""
        op = type(self).__name__
        if self.state_count == 1 and not isinstance(state, (list, tuple)):
            state = [state]
        # an LSTM's states may come as one array (2, B, U)
        states = checks.arrays(op, "initial_state", state)
        wanted = (batch, self.units)
        if len(states) != self.state_count or any(s.shape != wanted or s.dtype.kind not in "fiu" for s in states):
            got = ", ".join(f"{s.dtype} {s.shape}" for s in states) or "none"
            raise ValueError(
                f"[{op}] initial_state: expected {self.state_count} of shape (batch, units) = {wanted}, got {got}"
            )
        return [s.astype(self.dtype, copy=False) for s in states]

    def _forward(self, x: Array, training: bool, mask: Array | None) -> Any:
        given, self._given_state = self._given_state, None
        y, states, self._cache = self.run(x, training, mask, given)
        return [y, *states] if self.return_state else y

    def run(
        self, x: Array | Tokens, training: bool, mask: Array | None, given: list[Array] | None
    ) -> tuple[Array, list[Array], Trace | None]:
        """Output, final states, and in training what `run_backward` needs."""
        run = self.begin(x, training, mask, given)
        return self.end(run, _made(run.call))

    def begin(
        self,
        x: Array | Tokens,
        training: bool,
        mask: Array | None,
        given: list[Array] | None,
        *,
        out: Array | None = None,
        flip: bool = False,
    ) -> Run:
        """The call that `run` makes. With return_sequences the output goes to `out` (B, T, U) if given, and `flip`
        turns it round in time (Bidirectional needs the order of the input)."""
        if training and self._frozen is not None:
            raise RuntimeError(f"[{type(self).__name__}] training: expected False for a frozen layer, got True")
        dtype = np.dtype(self.dtype)
        batch, steps = x.shape[:2]
        initial = self._initial_state(batch, given)
        if mask is not None and mask.all():
            mask = None
        input_seed, recurrent_mask = None, None
        if training and self.dropout:
            assert not isinstance(x, Tokens)  # see `projects`
            input_seed = initializers.draw_seed(self._dropout_source)
            x = F.dropout(x, self.dropout, input_seed, broadcast_axes=(1,))
        if training and self.recurrent_dropout:
            seed = initializers.draw_seed(self._dropout_source)
            recurrent_mask = F.dropout_mask((batch, self.units), self.recurrent_dropout, seed, dtype)

        options: dict[str, Any] = {
            "mask": mask, "reverse": self.go_backwards, "recurrent_mask": recurrent_mask, "return_workspace": training,
            "return_sequences": self.return_sequences, "checkpoint": self.checkpoint,
        }  # fmt: skip
        # The kernels leave the output where the input stood; Keras wants it in the order of processing.
        flipped = self.return_sequences and self.go_backwards != flip
        if flipped and out is None:
            out = np.empty((batch, steps, self.units), dtype)
        if self.return_sequences and out is not None:
            options["out"] = out[:, ::-1] if flipped else out
        call = self._call(x, initial, options)
        return Run(call, out, mask, initial is not None, training, input_seed, flipped, isinstance(x, Tokens))

    def end(self, run: Run, result: Any) -> tuple[Array, list[Array], Trace | None]:
        """What `run` returns, from the result of the call."""
        out, mask, flipped = run.out, run.mask, run.flipped
        y, states = result[0], list(result[1]) if self.state_count > 1 else [result[1]]
        if self.stateful:
            self.states = [s.copy() for s in states]

        held = last = None
        if not self.return_sequences:
            last = self._last_rows(mask, run.carried)
            y = states[0].copy() if last is None else np.where(last[:, None], states[0], states[0].dtype.type(0))
        else:
            y = y if out is None else out
            if mask is not None and not self.zero_output_for_mask:
                held = np.ascontiguousarray(mask[:, ::-1]) if flipped else mask
                y = F.hold_last(y, held)
        trace = Trace(result[2], run.input_seed, flipped, held, last, run.tokens) if run.training else None
        return y, states, trace

    def _initial_state(self, batch: int, given: list[Array] | None) -> list[Array] | None:
        if not self.stateful:
            return given
        if self._batch != batch:
            words = f"the fixed batch size {self._batch} of stateful=True"
            raise ValueError(f"[{type(self).__name__}] inputs: expected {words}, got {batch}")
        return self.states if given is None else given

    def _last_rows(self, mask: Array | None, carried: bool) -> Array | None:
        """Which rows return their final state as last output: for the others Keras has zeros there."""
        if mask is None:
            return None
        if self.zero_output_for_mask:
            return np.asarray(mask[:, 0 if self.go_backwards else -1])
        # Nothing valid: the output never left its zeros, though the state may not be zero.
        return np.asarray(mask.any(axis=1)) if carried else None

    def _call(self, x: Any, initial: list[Array] | None, options: dict[str, Any]) -> Call:
        weights = self._native_weights() if self._frozen is None else (self._frozen, None, None, None)
        if isinstance(x, Tokens):
            if self.folded:
                x = x.ids
            else:
                x, options = x.index, {**options, "embedding": x.table}
        states = [None] * self.state_count if initial is None else initial
        return Call(self.cell, (x, *weights, *states), {**self._cell_options(), **options})

    def freeze(self, precision: str | None = None) -> F.PackedWeights:
        """From now on predict with the weights as they are, packed once (see FrozenModel); not to be trained again."""
        reset_after = self.reset_after if isinstance(self, GRU) else True
        packed = F.pack_weights(self.cell, *self._native_weights(), reset_after=reset_after, precision=precision)
        self._frozen = packed
        return packed

    def fold(self, embedding: Array) -> F.ProjectionTable:
        """For a frozen layer: take Tokens of `embedding` (V, I), whose input products are computed now."""
        assert isinstance(self._frozen, F.PackedWeights)
        table = self._frozen.project(embedding)
        self._frozen = table
        return table

    @property
    def folded(self) -> bool:
        """Is an embedding folded into the layer, which then takes nothing but `Tokens`?"""
        return isinstance(self._frozen, F.ProjectionTable)

    def _as_input(self, x: Any) -> Any:
        return x if isinstance(x, Tokens) and self.projects(x) else super()._as_input(x)

    def projects(self, x: Tokens) -> bool:
        """Does the layer work on the tokens? Yes if their products are there, or cheaper once per distinct token. Not
        with dropout, which makes the rows of a token differ in training."""
        if self.folded:
            return True
        if x.ndim != 3 or x.dtype != self.dtype or self.dropout or not self.built:
            return False
        return x.worth_projecting(x.ids.size, self.gate_count * self.units)

    def _native_weights(self) -> tuple[Array, Array, Array | None, Array | None]:
        bias = None if self.bias is None else self.bias.value
        return gates.to_native(self.cell, self.kernel.value, self.recurrent_kernel.value, bias)

    def _cell_options(self) -> dict[str, Any]:
        return {"activation": self.activation}

    def _backward(self, cache: Trace, grad_y: Any) -> Any:
        grads = list(grad_y) if self.return_state else [grad_y]
        grad_x = self.run_backward(cache, grads[0], grads[1:])
        return TokenGradient(grad_x) if cache.tokens and grad_x is not None else grad_x

    def run_backward(
        self, trace: Trace, grad_y: Array | None, grad_states: Sequence[Array | None] = ()
    ) -> Array | None:
        """Gradients of the weights into their variables, that of the input (the table, if it was `Tokens`) returned.
        None stands for zeros."""
        call = self.begin_backward(trace, grad_y, grad_states)
        return self.end_backward(trace, _made(call, "_backward"))

    def begin_backward(self, trace: Trace, grad_y: Array | None, grad_states: Sequence[Array | None] = ()) -> Call:
        """The call that `run_backward` makes."""
        states: list[Array | None] = list(grad_states) or [None] * self.state_count
        grad_output = None
        if grad_y is not None and self.return_sequences:
            grad_output = grad_y if trace.held is None else F.hold_last_backward(grad_y, trace.held)
            grad_output = grad_output[:, ::-1] if trace.flipped else grad_output
        elif grad_y is not None:
            grad_h = grad_y if trace.last is None else np.where(trace.last[:, None], grad_y, grad_y.dtype.type(0))
            states[0] = grad_h if states[0] is None else states[0] + grad_h
        return Call(self.cell, (trace.workspace, grad_output, *states), {"need_grad_x": self.need_grad_x})

    def end_backward(self, trace: Trace, gradients: Any) -> Array | None:
        """What `run_backward` does with the result of the call."""
        grad_x, *weights = gradients[:5]
        kernel, recurrent_kernel, bias = gates.to_keras(self.cell, *weights)
        self.kernel.grad, self.recurrent_kernel.grad = kernel, recurrent_kernel
        if self.bias is not None:
            self.bias.grad = bias
        self.grad_initial_state = list(gradients[5:])
        if grad_x is not None and trace.input_seed is not None:
            grad_x = F.dropout(grad_x, self.dropout, trace.input_seed, broadcast_axes=(1,))
        return grad_x  # type: ignore[no-any-return]

    def stream(self) -> Stream:
        """The layer as a `fastrnn.streaming.Stream`: a step or a block of one sequence at a time, the state carried.

        It copies the weights as they are now, and starts from zeros. Dropout is off, and what return_sequences,
        return_state and stateful say does not matter: every step's output is returned, and the state can be read.
        """
        op = type(self).__name__
        if not self.built:
            raise ValueError(f"[{op}] stream: expected a built layer, got one without weights")
        if self.go_backwards:
            raise ValueError(
                f"[{op}] stream: expected go_backwards=False (a stream has no end to start from), got True"
            )
        return Stream(self.cell, *self._native_weights(), **self._cell_options())

    # ---- shapes, masks, states, configuration ---------------------------------------------------------------------

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        batch, time = input_shape[0], input_shape[1]
        output = (batch, time, self.units) if self.return_sequences else (batch, self.units)
        return [output, *[(batch, self.units)] * self.state_count] if self.return_state else output

    def compute_mask(self, mask: Array | None) -> Array | None:
        if mask is None or not self.return_sequences:
            return None
        # The output is in the order of processing, and so must its mask be (Keras leaves it as it was).
        return np.ascontiguousarray(mask[:, ::-1]) if self.go_backwards else mask

    def reset_states(self, states: Any = None) -> None:
        """Start the next batch from zeros, or from `states`."""
        if states is not None and (not self.stateful or self._batch is None):
            raise ValueError(f"[{type(self).__name__}] states: expected a built layer with stateful=True")
        self.states = None if states is None else [s.copy() for s in self.check_state(states, self._batch or 0)]

    reset_state = reset_states

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **self._kernel.config(), **self._recurrent.config(), **self._bias.config(),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
            "seed": self.seed,
            "checkpoint": self.checkpoint,
        }  # fmt: skip


def _made(call: Call, suffix: str = "") -> Any:
    return getattr(F, call.function + suffix)(*call.arguments, **call.options)


class SimpleRNN(Recurrent):
    """Elman network: h' = activation(x kernel + h recurrent_kernel + bias); x (B, T, I) -> (B, U) or (B, T, U).

    Options, shapes of the weights: see `Recurrent`.
    """

    cell, gate_count = "rnn", 1

    def __init__(self, units: int, activation: Any = "tanh", use_bias: bool = True, **options: Any) -> None:
        super().__init__(units, activation, use_bias, options)


class LSTM(Recurrent):
    """Long short-term memory: x (B, T, I) -> (B, U) or (B, T, U); gates in the order i f c o.

    i, f, o = recurrent_activation(x kernel + h recurrent_kernel + bias), each with its part of them;
    g = activation(...); c' = f c + i g; h' = o activation(c'). `unit_forget_bias` starts the forget gate's bias at one.
    Options, shapes of the weights: see `Recurrent`.
    """

    cell, gate_count, state_count = "lstm", 4, 2

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, *,
        unit_forget_bias: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(units, activation, use_bias, options)
        self.recurrent_activation = activations.parse(recurrent_activation)
        self.unit_forget_bias = checks.boolean("LSTM", "unit_forget_bias", unit_forget_bias)

    def _bias_initializer(self) -> Any:
        if not self.unit_forget_bias:
            return self._bias.initializer

        def draw(shape: tuple[int, ...], dtype: Any) -> Array:
            # Keras draws i, then c and o together
            i = self._bias.initializer((self.units,), dtype)
            return np.concatenate([i, np.ones(self.units, dtype), self._bias.initializer((2 * self.units,), dtype)])

        return draw

    def _cell_options(self) -> dict[str, Any]:
        return {"activation": self.activation, "recurrent_activation": self.recurrent_activation}

    def get_config(self) -> dict[str, Any]:
        recurrent_activation = activations.serialize(self.recurrent_activation)
        return {
            **super().get_config(),
            "recurrent_activation": recurrent_activation,
            "unit_forget_bias": self.unit_forget_bias,
        }


class GRU(Recurrent):
    """Gated recurrent unit: x (B, T, I) -> (B, U) or (B, T, U); gates in the order z r h.

    z, r = recurrent_activation(x kernel + h recurrent_kernel + bias), each with its part of them;
    h' = z h + (1 - z) activation(...). `reset_after`: the reset gate multiplies after the recurrent product, with a
    bias of its own (bias (2, 3U)), else before it (bias (3U,)). Options, shapes of the weights: see `Recurrent`.
    """

    cell, gate_count = "gru", 3

    def __init__(
        self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, *,
        reset_after: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(units, activation, use_bias, options)
        self.recurrent_activation = activations.parse(recurrent_activation)
        self.reset_after = checks.boolean("GRU", "reset_after", reset_after)

    def _bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def _cell_options(self) -> dict[str, Any]:
        return {
            "activation": self.activation,
            "recurrent_activation": self.recurrent_activation,
            "reset_after": self.reset_after,
        }

    def get_config(self) -> dict[str, Any]:
        recurrent_activation = activations.serialize(self.recurrent_activation)
        return {**super().get_config(), "recurrent_activation": recurrent_activation, "reset_after": self.reset_after}
