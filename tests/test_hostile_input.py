"""What a hostile tester got through: arguments that crashed, were silently accepted or gave somebody else's traceback.
The ordinary bad arguments are in test_bad_input.py (functional) and in the tests of each part."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import _core, callbacks, constraints, initializers, layers, optimizers, regularizers
from fastrnn import functional as F
from fastrnn.models import Sequential, load_model

HUGE = 10**400  # an integer that no float holds


def f32(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def refuses(error: type[Exception], start: str, call: Callable[[], Any]) -> None:
    """`start`: what the message begins with, "[op] argument"."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert type(caught.value) is error, caught.value
    assert re.match(rf"{re.escape(start)}[^:]*: expected .+, got .+", message, re.DOTALL), message


def cell(op: str, **changes: Any) -> Any:
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[op]
    given = {"x": f32(2, 3, 4), "weight_ih": f32(gates * 5, 4), "weight_hh": f32(gates * 5, 5), **changes}
    return getattr(F, op)(**given)


# ---- functional ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("flag", ["reverse", "batch_first", "return_sequences", "return_workspace"])
@pytest.mark.parametrize("value", ["no", None, 2, np.array([True, False])])
def test_flags_of_recurrent_functions(op: str, flag: str, value: Any) -> None:
    refuses(TypeError, f"[{op}] {flag}", lambda: cell(op, **{flag: value}))


@pytest.mark.parametrize("op", ["rnn", "lstm", "gru"])
def test_ragged_lists(op: str) -> None:
    refuses(ValueError, f"[{op}] lengths", lambda: cell(op, lengths=[[1], [2, 3]]))
    refuses(ValueError, f"[{op}] mask", lambda: cell(op, mask=[[True], [True, False]]))
    refuses(ValueError, f"[{op}] x", lambda: cell(op, x=[[[1.0, 2.0], [1.0]]]))


@pytest.mark.parametrize("value", ["no", None, 1])
def test_flags_of_backward_functions(value: Any) -> None:
    workspace = cell("gru", return_workspace=True)[2]
    refuses(TypeError, "[gru_backward] need_grad_x", lambda: F.gru_backward(workspace, need_grad_x=value))
    x, w, y = f32(2, 3), f32(4, 3), f32(2, 4)
    refuses(TypeError, "[linear_backward] has_bias", lambda: F.linear_backward(x, w, y, y, has_bias=value))
    refuses(TypeError, "[gru] reset_after", lambda: cell("gru", reset_after=value))


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize("dilation", [2**30, 2**61, 2**62, 2**70])
def test_a_window_that_no_memory_holds(padding: str, dilation: int) -> None:
    """2**61 was a segmentation fault, as the size of the padded copy wrapped."""
    x, w = f32(2, 5, 3), f32(4, 3, 3)
    refuses(ValueError, "[conv1d] dilation", lambda: F.conv1d(x, w, dilation=dilation, padding=padding))
    y = f32(2, 5, 4)
    refuses(
        ValueError,
        "[conv1d_backward] dilation",
        lambda: F.conv1d_backward(x, w, y, y, dilation=dilation, padding=padding),
    )


def test_a_window_longer_than_the_sequence_is_fine() -> None:
    x, w = f32(2, 5, 3), f32(4, 3, 3)
    y = F.conv1d(x, w, dilation=1000, padding="causal")
    np.testing.assert_allclose(y, x @ w[:, :, 2].T, rtol=1e-5, atol=1e-6)  # only the last tap meets the sequence


@pytest.mark.parametrize(("error", "value"), [(TypeError, 5.0), (TypeError, None), (TypeError, True), (ValueError, -1),
                                              (ValueError, 2**62), (ValueError, 2**70)])  # fmt: skip
def test_extents(error: type[Exception], value: Any) -> None:
    at, g = np.zeros((2, 2, 3), np.int32), f32(2, 2, 3)
    refuses(error, "[max_pool1d_backward] T", lambda: F.max_pool1d_backward(at, g, value))
    refuses(error, "[avg_pool1d_backward] T", lambda: F.avg_pool1d_backward(g, value, 2))
    refuses(error, "[global_max_pool1d_backward] T", lambda: F.global_max_pool1d_backward(at[0], g[0], value))
    refuses(error, "[global_avg_pool1d_backward] T", lambda: F.global_avg_pool1d_backward(g[0], value))
    refuses(error, "[embedding_backward] num_emb", lambda: F.embedding_backward(at[0], g, value))
    refuses(error, "[max_pool1d] pool_size", lambda: F.max_pool1d(g, value))


@pytest.mark.parametrize("axes", [1, "ab", (0.5,), (None,), (True,)])
def test_dropout_axes(axes: Any) -> None:
    refuses(TypeError, "[dropout] broadcast_axes", lambda: F.dropout(f32(2, 3), 0.5, 1, broadcast_axes=axes))


def test_dropout_mask_arguments() -> None:
    for shape in (3, "ab", (2.5,), None, (True,)):
        refuses(TypeError, "[dropout_mask] shape", lambda shape=shape: F.dropout_mask(shape, 0.5, 1))
    refuses(ValueError, "[dropout_mask] shape", lambda: F.dropout_mask((2**33, 2**33), 0.5, 1))
    for dtype in ("nothing", 3, object):
        refuses(TypeError, "[dropout_mask] dtype", lambda dtype=dtype: F.dropout_mask((3,), 0.5, 1, dtype))


def test_integers_beyond_all_floats() -> None:
    for call in (
        lambda: F.sgd_update(f32(3), f32(3), lr=HUGE),
        lambda: F.activation(f32(3), ("leaky_relu", -HUGE)),
        lambda: layers.LSTM(3, dropout=HUGE),
        lambda: layers.Masking(HUGE),
        lambda: optimizers.Adam(HUGE),
        lambda: initializers.RandomNormal(HUGE),
        lambda: regularizers.L2(HUGE),
        lambda: constraints.MaxNorm(HUGE),
    ):
        with pytest.raises(ValueError, match=r"^\[\w+\] .+: expected .+, got -?1000"):
            call()


# ---- layers --------------------------------------------------------------------------------------------------------

LAYERS: dict[str, Callable[[], Any]] = {
    "Dense": lambda: layers.Dense(3),
    "LSTM": lambda: layers.LSTM(3),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(3)),
    "Conv1D": lambda: layers.Conv1D(3, 2),
    "MaxPooling1D": lambda: layers.MaxPooling1D(2),
    "GlobalAveragePooling1D": lambda: layers.GlobalAveragePooling1D(),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(2)),
    "Flatten": lambda: layers.Flatten(),
    "Reshape": lambda: layers.Reshape((8,)),
    "Dropout": lambda: layers.Dropout(0.5),
    "SpatialDropout1D": lambda: layers.SpatialDropout1D(0.5),
    "Masking": lambda: layers.Masking(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_the_wrong_kind(name: str) -> None:
    """Dropout and global pooling took any shape; others ended in NumPy's words. Nothing is used up by a refusal."""
    layer, x = LAYERS[name](), f32(2, 4, 2)
    y = layer(x, training=True)
    refuses(ValueError, f"[{name}] grad_y", lambda: layer.backward(f32(7, 7)))
    refuses(ValueError, f"[{name}] grad_y", lambda: layer.backward([f32(*y.shape), None]))
    refuses(TypeError, f"[{name}] grad_y", lambda: layer.backward(None))
    refuses(TypeError, f"[{name}] grad_y", lambda: layer.backward(np.ones(y.shape)))
    assert layer.backward(np.ones_like(y)).shape == x.shape


@pytest.mark.parametrize("name", LAYERS)
def test_lists_that_are_no_arrays(name: str) -> None:
    layer, x = LAYERS[name](), f32(2, 4, 2)
    layer(x)
    refuses(TypeError, f"[{name}] weights", lambda: layer.set_weights(None))
    refuses(ValueError, f"[{name}] weights", lambda: layer.set_weights([[[1.0], [1.0, 2.0]]]))
    refuses(ValueError, f"[{name}] mask", lambda: layer(x, mask=[[1], [1, 0]]))
    refuses(ValueError, f"[{name}] inputs", lambda: layer(1.0))


def test_initial_states_that_are_none() -> None:
    x = f32(2, 4, 2)
    for layer, name in ((layers.LSTM(3), "LSTM"), (layers.Bidirectional(layers.LSTM(3)), "Bidirectional")):
        layer(x)
        refuses(TypeError, f"[{name}] initial_state", lambda layer=layer: layer(x, 5))
        refuses(ValueError, f"[{name}] initial_state", lambda layer=layer: layer(x, []))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.array([1.0, np.nan])])
def test_constants_that_are_not_finite(value: Any) -> None:
    refuses(ValueError, "[Constant] value", lambda: layers.Dense(2, bias_initializer=value))


# ---- training and files --------------------------------------------------------------------------------------------


def model() -> Sequential:
    made = Sequential([layers.LSTM(3, input_shape=(None, 2)), layers.Dense(1)])
    made.compile("sgd", "mse")
    return made


def test_data_of_no_steps() -> None:
    for call in (
        lambda x: model().fit(x, f32(4, 1), verbose=0),
        lambda x: model().evaluate(x, f32(4, 1), verbose=0),
        lambda x: model().predict(x, verbose=0),
    ):
        with pytest.raises(ValueError, match=r"^\[\w+\] x: expected no empty axis, got shape \(4, 0, 2\)"):
            call(f32(4, 0, 2))
    refuses(TypeError, "[predict] x", lambda: model().predict({}, verbose=0))


def test_flags_of_optimizers() -> None:
    for value in ("no", 1.0, None, float("nan")):
        refuses(TypeError, "[Adam] amsgrad", lambda value=value: optimizers.Adam(amsgrad=value))
        refuses(TypeError, "[SGD] nesterov", lambda value=value: optimizers.SGD(nesterov=value))
        refuses(TypeError, "[RMSprop] centered", lambda value=value: optimizers.RMSprop(centered=value))
        refuses(TypeError, "[AdamW] use_ema", lambda value=value: optimizers.AdamW(use_ema=value))


def test_callbacks_arguments() -> None:
    refuses(TypeError, "[EarlyStopping] monitor", lambda: callbacks.EarlyStopping(monitor=5))
    refuses(ValueError, "[EarlyStopping] baseline", lambda: callbacks.EarlyStopping(baseline=float("nan")))
    refuses(TypeError, "[EarlyStopping] baseline", lambda: callbacks.EarlyStopping(baseline="high"))
    refuses(TypeError, "[ModelCheckpoint] filepath", lambda: callbacks.ModelCheckpoint(5))
    refuses(
        TypeError,
        "[fit] callbacks",
        lambda: model().fit(f32(4, 5, 2), f32(4, 1), verbose=0, callbacks=[callbacks.EarlyStopping]),
    )


def test_paths_that_are_none(tmp_path: Path) -> None:
    for path in (None, 5, b"model", ""):
        refuses(TypeError, "[load_model] filepath", lambda path=path: load_model(path))
        refuses(TypeError, "[save] filepath", lambda path=path: model().save(path))
    refuses(ValueError, "[load_model] filepath", lambda: load_model("a\0b"))
    refuses(ValueError, "[save] filepath", lambda: model().save("a\0b"))
    refuses(TypeError, "[save] extra", lambda: model().save(tmp_path / "m.safetensors", extra=5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_save_that_fails_midway_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path, made = tmp_path / "modèle é.safetensors", model()
    made.save(path)
    before = path.read_bytes()
    made.set_weights([w + 1 for w in made.get_weights()])

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"fastrnn.saving.os.{failing}", fail)
    with pytest.raises(KeyboardInterrupt):
        made.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", [["info"], ["train", "basic"], ["predict", "no-file", "text"]])
def test_an_unknown_instruction_set_is_one_line(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastrnn", *command],
        env={**os.environ, "FASTRNN_ISA": "bogus"}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"Error: \[fastrnn\] FASTRNN_ISA: expected one of .+, got 'bogus'\n", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("axes", [(1, -2, -3), (-1, 6, -1), (2**32, 2**32, 6), (6, 1, 0), (4, 1, 1)])
def test_broadcast_axes_that_are_none(axes: tuple[int, int, int]) -> None:
    """Their product may be that of the array, wrapped round or of negative ones."""
    with pytest.raises(ValueError, match=r"\[dropout\] x: expected whole broadcast axes"):
        _core.dropout(f32(6), 0.5, 1, *axes)
