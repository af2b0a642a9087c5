"""Arrays of other libraries go in without a copy; `out=` takes results where the caller has room for them."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn.layers as L
from fastrnn import functional as F
from fastrnn.models import Sequential
from fastrnn.streaming import Stream

Array = np.ndarray[Any, Any]


class DLPack:
    """Nothing but DLPack, of an array, on a device of the caller's choice."""

    def __init__(self, values: Array, device: tuple[int, int] = (1, 0), requires_grad: bool = False) -> None:
        self.values, self.device, self.requires_grad = values, device, requires_grad

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim


class Interface:
    """Nothing but `__array_interface__`."""

    def __init__(self, values: Array) -> None:
        self.values = values
        self.__array_interface__ = values.__array_interface__
        self.shape, self.ndim = values.shape, values.ndim


def torch_tensor(values: Array) -> Any:
    return pytest.importorskip("torch").from_numpy(values)


def jax_array(values: Array) -> Any:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray(values)


SHARES: dict[str, Callable[[Array], Any]] = {
    "dlpack": DLPack, "interface": Interface, "memoryview": memoryview, "torch": torch_tensor, "jax": jax_array,
}  # fmt: skip


@pytest.fixture(params=SHARES)
def share(request: pytest.FixtureRequest) -> Callable[[Array], Any]:
    return SHARES[request.param]


def draw(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def weights(gates: int, inputs: int = 3, hidden: int = 4, dtype: Any = np.float64) -> list[Array]:
    rows = gates * hidden
    return [draw(rows, inputs, dtype=dtype), draw(rows, hidden, dtype=dtype), draw(rows, dtype=dtype, seed=1),
            draw(rows, dtype=dtype, seed=2)]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recurrent_layers_forward_and_backward(share: Any, dtype: Any) -> None:
    x, h0, c0 = draw(2, 5, 3, dtype=dtype), draw(2, 4, dtype=dtype), draw(2, 4, dtype=dtype, seed=5)
    arrays = [x, *weights(4, dtype=dtype), h0, c0]
    lengths, grad = np.array([5, 3]), draw(2, 5, 4, dtype=dtype)
    y, (h, c), workspace = F.lstm(*arrays, lengths=lengths, return_workspace=True)
    g = F.lstm_backward(workspace, grad)
    foreign = [share(a) for a in arrays]
    y2, (h2, c2), workspace = F.lstm(*foreign, lengths=share(lengths), return_workspace=True)
    del foreign
    g2 = F.lstm_backward(workspace, share(grad))
    for one, two in zip((y, h, c, *g), (y2, h2, c2, *g2), strict=True):
        np.testing.assert_array_equal(one, two)
        assert type(two) is np.ndarray and two.dtype == dtype


def test_the_other_functions(share: Any) -> None:
    x, ids, grad = draw(2, 6, 3), np.array([[1, 0], [4, 2]]), draw(2, 4, 5)
    weight, table, mask = draw(5, 3, 3), draw(6, 3), np.array([[1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    packed = F.pack_weights("gru", *weights(3))
    calls: list[tuple[Callable[..., Any], list[Array]]] = [
        (F.conv1d, [x, weight]),
        (lambda a, w, g: F.conv1d_backward(a, w, g, g)[1], [x, weight, grad]),
        (F.linear, [x, weight[:, :, 0].copy()]),
        (F.embedding, [ids, table]),
        (lambda i, g: F.embedding_backward(i, g, 6), [ids, draw(2, 2, 3)]),
        (F.softmax, [x]),
        (lambda a: F.activation(a, "tanh"), [x]),
        (lambda a: F.dropout(a, 0.5, 3, broadcast_axes=(1,)), [x]),
        (lambda a: F.max_pool1d(a, 2)[0], [x]),
        (lambda a: F.avg_pool1d(a, 2), [x]),
        (lambda a: F.avg_pool1d_backward(a, 12, 2), [x]),
        (lambda a, m: F.global_avg_pool1d(a, m), [x, mask]),
        (lambda a, m: F.rnn(a, *weights(1), mask=m)[0], [x, mask]),
        (lambda a: F.gru(a, packed)[0], [x]),
        (lambda i: F.token_index(i, 6).inverse, [ids]),
        (lambda e: F.gru(F.token_index(ids, 6), *weights(3), embedding=e)[0], [table]),
    ]
    for call, arrays in calls:
        np.testing.assert_array_equal(call(*map(share, arrays)), call(*arrays))


def test_nothing_is_copied() -> None:
    """A workspace refers to x: a change of the tensor's memory is seen by backward."""
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, 3, dtype=torch.float64)
    _, _, workspace = F.rnn(x, *weights(1), return_workspace=True)
    before = F.rnn_backward(workspace, draw(2, 3, 4)).grad_weight_ih
    x.mul_(2.0)
    np.testing.assert_allclose(F.rnn_backward(workspace, draw(2, 3, 4)).grad_weight_ih, 2 * before, rtol=1e-12)


def test_strides_of_tensors() -> None:
    torch = pytest.importorskip("torch")
    x, w = torch.randn(3, 5, 2), torch.randn(3, 8)
    expected = F.linear(x.permute(2, 1, 0).numpy().copy(), w.T.numpy().copy())
    np.testing.assert_allclose(F.linear(x.permute(2, 1, 0), w.T), expected, rtol=1e-6)


def test_updates_are_written_into_the_object() -> None:
    for share in (torch_tensor, memoryview, Interface, DLPack):
        param, m, v = draw(4), np.zeros(4), np.zeros(4)
        expected = [a.copy() for a in (param, m, v)]
        grad = draw(4, seed=1)
        F.adam_update(expected[0], grad, *expected[1:], lr=0.1, step=1)
        if share is DLPack and not np.from_dlpack(DLPack(param)).flags.writeable:
            continue  # older NumPy
        F.adam_update(share(param), share(grad), share(m), share(v), lr=0.1, step=1)
        for got, wanted in zip((param, m, v), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
    values = array.array("d", [1.0, 2.0])
    F.sgd_update(values, array.array("d", [1.0, -1.0]), lr=0.5)
    assert list(values) == [0.5, 2.5]
    with pytest.raises(ValueError, match=r"\[sgd_update\] param: expected a writeable array"):
        F.sgd_update(memoryview(np.ones(2).tobytes()).cast("d"), np.ones(2), lr=0.5)
    with pytest.raises(ValueError, match="velocity: expected an array of its own"):
        F.sgd_update(torch_tensor(values := np.ones(2)), np.ones(2), torch_tensor(values), lr=0.5)


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_other_devices() -> None:
    x = DLPack(draw(2, 3, 3), device=(2, 0))
    words = "expected data on the CPU, got a DLPack on DLPack's device type 2"
    with pytest.raises(ValueError, match=rf"\[rnn\] x: {words}"):
        F.rnn(x, *weights(1))
    with pytest.raises(ValueError, match=rf"\[linear\] weight: {words}"):
        F.linear(draw(2, 3), DLPack(draw(4, 3), device=(2, 0)))
    with pytest.raises(ValueError, match=rf"\[predict\] x: {words}"):
        Sequential([L.SimpleRNN(2)]).predict(x)


def test_tensors_that_require_a_gradient() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    words = r"expected data without a gradient \(pass it through .detach\(\)\), got a (Tensor|Parameter) that requires"
    for call, where in (
        (lambda: F.lstm(x, *weights(4)), r"\[lstm\] x"),
        (lambda: F.lstm(draw(2, 3, 3), torch.nn.Parameter(torch.zeros(16, 3)), *weights(4)[1:]), r"\[lstm\] weight_ih"),
        (lambda: F.max_pool1d(x, 2), r"\[max_pool1d\] x"),
        (lambda: L.LSTM(2)(x), r"\[LSTM\] inputs"),
        (lambda: Sequential([L.LSTM(2)])(x), r"\[call\] x"),
        (lambda: Sequential([L.LSTM(2)]).predict(x), r"\[predict\] x"),
    ):
        with pytest.raises(ValueError, match=f"{where}: {words}"):
            call()
    assert F.lstm(x.detach(), *weights(4))[0].shape == (2, 3, 4)


def test_what_numpy_cannot_share() -> None:
    torch = pytest.importorskip("torch")
    for odd in (
        torch.zeros(2, 3, dtype=torch.bfloat16),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3, device="meta"),
    ):
        with pytest.raises(TypeError, match=r"\[linear\] x: expected data that NumPy can share, got Tensor \("):
            F.linear(odd, draw(4, 3))
    for other in (None, "text", 3, [[1.0, 2.0, 3.0]], object()):
        with pytest.raises(TypeError, match=r"\[linear\] x: expected a NumPy array, got"):
            F.linear(other, draw(4, 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"\[linear\] weight: expected dtype float64 .that of x., got float32"):
        F.linear(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(4, 3))


def test_an_exporter_that_fails_or_is_interrupted() -> None:
    class Broken(DLPack):
        def __init__(self, error: BaseException) -> None:
            super().__init__(draw(2, 3))
            self.error = error

        def __dlpack__(self, **options: Any) -> Any:
            raise self.error

    with pytest.raises(TypeError, match=r"\[linear\] x: expected data that NumPy can share, got Broken \(no luck\)"):
        F.linear(Broken(RuntimeError("no luck")), draw(4, 3))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        F.linear(Broken(KeyboardInterrupt()), draw(4, 3))  # type: ignore[arg-type]


# ---- layers, models, streams --------------------------------------------------------------------------------------


def test_layers_models_and_streams(share: Any) -> None:
    x, y = draw(8, 5, 3, dtype=np.float32), np.arange(8) % 2
    model = Sequential([L.GRU(4), L.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    expected = model.predict(x)
    kind = np.ndarray if share is not Interface else Interface
    if kind is np.ndarray:  # layers take what np.asarray takes, and that includes the interface alone
        np.testing.assert_array_equal(model.predict(share(x)), expected)
        model.fit(share(x), share(y), sample_weight=share(np.ones(8, np.float32)), verbose=0)
    np.testing.assert_array_equal(model(share(x)), model.predict(x))
    np.testing.assert_array_equal(model.layers[0](share(x)), model.layers[0](x))
    stream = Stream("rnn", *weights(1))
    first = stream(draw(6, 3))
    stream.reset()
    np.testing.assert_array_equal(stream(share(draw(6, 3))), first)


# ---- out= ---------------------------------------------------------------------------------------------------------


def test_out_takes_the_result(share: Any) -> None:
    x, weight, ids, table = draw(2, 6, 3), draw(5, 3, 2), np.array([[1, 0], [4, 2]]), draw(6, 3)
    calls: list[tuple[Callable[..., Any], Array]] = [
        (lambda **o: F.linear(x, weight[:, :, 0], draw(5), activation="relu", **o), np.empty((2, 6, 5))),
        (lambda **o: F.conv1d(x, weight, padding="same", **o), np.empty((2, 6, 5))),
        (lambda **o: F.embedding(ids, table, **o), np.empty((2, 2, 3))),
        (lambda **o: F.gru(x, *weights(3), **o)[0], np.empty((2, 6, 4))),
    ]
    for call, out in calls:
        assert call(out=out) is out
        np.testing.assert_array_equal(out, call())
        room = out.copy()
        room[...] = np.nan
        if share is jax_array:  # immutable
            with pytest.raises(ValueError, match="out: expected a writeable array"):
                call(out=share(room))
            continue
        if share is DLPack and not np.from_dlpack(DLPack(room)).flags.writeable:
            continue
        foreign = share(room)
        assert call(out=foreign) is foreign
        np.testing.assert_array_equal(room, out)


def test_out_that_does_not_fit() -> None:
    x, weight = draw(4, 3), draw(3, 3)
    held = np.zeros((4, 6))
    frozen = np.zeros((4, 3))
    frozen.flags.writeable = False
    for out, error, words in (
        (np.empty((4, 2)), ValueError, r"the shape of the result = \(4, 3\), got \(4, 2\)"),
        (np.empty((4, 3), np.float32), TypeError, "expected dtype float64"),
        (held[:, ::2], ValueError, "C-contiguous"),
        (frozen, ValueError, "writeable"),
        (x, ValueError, "apart from the arguments"),
        ([0.0], TypeError, "expected a NumPy array, got list"),
    ):
        before = x.copy()
        with pytest.raises(error, match=rf"\[linear\] out: .*{words}"):
            F.linear(x, weight, out=out)  # type: ignore[arg-type]
        np.testing.assert_array_equal(x, before)
    square = draw(3, 3, seed=9)
    with pytest.raises(ValueError, match="apart from the arguments"):
        F.linear(draw(3, 3), square, out=square)
    with pytest.raises(ValueError, match=r"\[embedding\] out: expected an array apart"):
        F.embedding(np.array([0, 1, 2]), square, out=square)


@pytest.mark.parametrize("argument", ["x", "weight_ih", "weight_hh", "bias_ih", "h0", "c0", "recurrent_mask"])
def test_the_output_of_a_layer_stands_apart_from_each_argument(argument: str) -> None:
    batch, steps, size = 2, 2, 8
    shapes = {
        "x": (batch, steps, size), "weight_ih": (4 * size, size), "weight_hh": (4 * size, size), "bias_ih": (4 * size,),
        "h0": (batch, size), "c0": (batch, size), "recurrent_mask": (batch, size),
    }  # fmt: skip
    block = draw(4 * size * size)  # room for the largest
    given = {name: draw(*shape) for name, shape in shapes.items()}
    given[argument] = block[: given[argument].size].reshape(shapes[argument])
    before = block.copy()
    with pytest.raises(ValueError, match=r"\[lstm\] out: expected an array apart from the arguments"):
        F.lstm(**given, out=block[: batch * steps * size].reshape(batch, steps, size))
    np.testing.assert_array_equal(block, before)


def test_the_output_of_a_layer_has_three_axes() -> None:
    for wrong in (np.empty((), np.float64), np.empty((2, 3)), np.empty((2, 2, 3, 1))):
        with pytest.raises(ValueError, match=r"\[rnn\] out: expected an array with 3 axes, got \("):
            F.rnn(draw(2, 2, 3), draw(3, 3), draw(3, 3), out=wrong)
