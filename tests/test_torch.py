"""fastrnn.torch against torch.nn: results, dropout, packed sequences, the module itself, refusals."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence  # noqa: E402

import fastrnn.torch as ft  # noqa: E402
from torch_tools import (  # noqa: E402, F401
    CELLS,
    LENGTHS,
    TOLERANCE,
    B,
    H,
    I,
    T,
    assert_same,
    cells,
    everything,
    flat,
    on_kernels,
    one_thread,
    pair,
    states,
)

# ---- results and gradients ----------------------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_parity(
    monkeypatch: Any, cell: str, layers: int, bidirectional: bool, bias: bool, batch_first: bool, dtype: Any
) -> None:
    theirs, ours = pair(cell, dtype, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first)
    on_kernels(monkeypatch)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=dtype)
    for hx in (None, states(cell, theirs, dtype=dtype)):
        assert_same(everything(ours, x, hx), everything(theirs, x, hx), TOLERANCE[dtype])
        with torch.no_grad():
            mine = dict(enumerate(flat(ours(x, hx))))
            assert_same(mine, dict(enumerate(flat(theirs(x, hx)))), TOLERANCE[dtype])


@cells
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched(monkeypatch: Any, cell: str, batch_first: bool) -> None:
    theirs, ours = pair(cell, num_layers=2, bidirectional=True, batch_first=batch_first)
    on_kernels(monkeypatch)
    x = torch.randn(T, I, dtype=torch.float64)
    for hx in (None, states(cell, theirs, batch=None)):
        assert_same(everything(ours, x, hx), everything(theirs, x, hx), 1e-12)


def test_relu(monkeypatch: Any) -> None:
    theirs, ours = pair("RNN", nonlinearity="relu", num_layers=2)
    on_kernels(monkeypatch)
    x = torch.randn(T, B, I, dtype=torch.float64)
    assert_same(everything(ours, x), everything(theirs, x), 1e-12)


@cells
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_packed_sequence(monkeypatch: Any, cell: str, batch_first: bool, with_state: bool) -> None:
    theirs, ours = pair(cell, num_layers=2, bidirectional=True, batch_first=batch_first)
    on_kernels(monkeypatch)
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=torch.float64)
    hx = states(cell, theirs) if with_state else None

    def given(x: Any) -> Any:
        return pack_padded_sequence(x, LENGTHS, batch_first=batch_first, enforce_sorted=False)

    theirs.given = ours.given = given
    assert_same(everything(ours, x, hx), everything(theirs, x, hx), 1e-12)
    one, other = ours(given(x), hx)[0], theirs(given(x), hx)[0]
    assert isinstance(one, PackedSequence)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_sorted_packed_sequence_without_indices(monkeypatch: Any) -> None:
    theirs, ours = pair("GRU")
    on_kernels(monkeypatch)
    packed = pack_sequence([torch.randn(n, I, dtype=torch.float64) for n in (5, 3, 3, 1)])
    (mine, h_mine), (other, h_other) = ours(packed), theirs(packed)
    assert mine.sorted_indices is None and mine.unsorted_indices is None
    torch.testing.assert_close(mine.data, other.data, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(h_mine, h_other, rtol=1e-12, atol=1e-12)


@cells
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(monkeypatch: Any, cell: str, bidirectional: bool, bias: bool) -> None:
    _, ours = pair(cell, input_size=2, hidden_size=3, bidirectional=bidirectional, bias=bias)
    on_kernels(monkeypatch)
    names = [name for name, _ in ours.named_parameters()]
    directions = 2 if bidirectional else 1
    hx = [torch.randn(directions, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    hx = hx if cell == "LSTM" else hx[:1]
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)

    def call(x: Any, *tensors: Any) -> tuple[Any, ...]:
        hx, weights = tensors[: -len(names)], tensors[-len(names) :]
        state = tuple(hx) if cell == "LSTM" else hx[0]
        made = torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, state))
        return tuple(flat(made))

    assert torch.autograd.gradcheck(call, (x, *hx, *(p.detach().requires_grad_() for p in ours.parameters())))


def test_gradcheck_through_packing() -> None:
    sequence = pack_padded_sequence(torch.zeros(T, B, 1), LENGTHS, enforce_sorted=False)
    places = ft.packed.Places.of(sequence.batch_sizes, len(sequence.data))
    data = torch.randn(int(LENGTHS.sum()), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: ft.packed.pad(d, places), data)
    assert torch.equal(ft.packed.pack(ft.packed.pad(data, places), places), data)


@cells
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rate", [0.4, 1.0])
def test_dropout_draws_what_torch_draws(
    monkeypatch: Any, cell: str, batch_first: bool, packed: bool, rate: float
) -> None:
    theirs, ours = pair(cell, num_layers=3, bidirectional=True, batch_first=batch_first, dropout=rate)
    on_kernels(monkeypatch)
    if packed:
        theirs.given = ours.given = lambda x: pack_padded_sequence(
            x, LENGTHS, batch_first=batch_first, enforce_sorted=False
        )
    x = torch.randn((B, T, I) if batch_first else (T, B, I), dtype=torch.float64)
    found = []
    for module in (ours, theirs):
        torch.manual_seed(3)
        found.append(everything(module, x))
    assert_same(*found, 1e-12)
    ours.eval(), theirs.eval()
    assert_same(everything(ours, x), everything(theirs, x), 1e-12)
    assert not torch.equal(everything(ours, x)["result 0"], found[0]["result 0"])


@cells
def test_a_seed_gives_the_same_weights(cell: str) -> None:
    made = []
    for module in (nn, ft):
        torch.manual_seed(11)
        made.append(getattr(module, cell)(3, 4, 2, bidirectional=True))
    assert list(made[0].state_dict()) == list(made[1].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in made), strict=True))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_default_device_elsewhere(dropout: float, packed: bool) -> None:
    theirs, ours = pair("GRU", num_layers=2, dropout=dropout)
    x = torch.randn(T, B, I, dtype=torch.float64)
    given = pack_padded_sequence(x, LENGTHS, enforce_sorted=False) if packed else x
    results = []
    for module in (theirs, ours):
        torch.manual_seed(3)
        with torch.device("meta"):
            output = module(given)[0]
        results.append(output.data if packed else output)
    torch.testing.assert_close(*results)


def test_batch_sizes_that_do_not_fit() -> None:
    _, ours = pair("LSTM")
    data = torch.randn(5, I, dtype=torch.float64)
    zeros = torch.zeros(1, 3, H, dtype=torch.float64)
    for sizes in ([2, 1, 2], [3, 1], [3, 3], [3, 3, -1], []):
        given = PackedSequence(data, torch.tensor(sizes, dtype=torch.int64))
        for hx in (None, (zeros, zeros)) if sizes[:1] == [3] else (None,):
            with pytest.raises(
                ValueError, match=r"\[PackedSequence\] input: expected batch_sizes that never grow.* got \["
            ):
                ours(given, hx)


def test_results_do_not_depend_on_threads() -> None:
    from fastrnn import runtime

    _, ours = pair("LSTM", torch.float32, bidirectional=True)
    x = torch.randn(T, 64, I)
    found = []
    for threads, torch_threads in itertools.product((1, 2), repeat=2):
        before = torch.get_num_threads()
        torch.set_num_threads(torch_threads)
        with runtime.num_threads(threads):
            found.append(everything(ours, x)["result 0"])
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


# ---- module ---------------------------------------------------------------------------------------------------------


@cells
def test_state_dict_goes_both_ways(cell: str) -> None:
    theirs, ours = pair(cell, num_layers=2, bidirectional=True)
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(torch.randn_like(p))
    assert theirs.load_state_dict(ours.state_dict()) == ours.load_state_dict(theirs.state_dict())
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)


@cells
def test_it_is_a_module_of_torch(cell: str) -> None:
    options: dict[str, Any] = dict(num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)
    theirs, ours = pair(cell, **options)
    assert isinstance(ours, getattr(nn, cell))
    assert repr(ours) == repr(theirs)
    assert ours.flatten_parameters() is None
    positional = getattr(ft, cell)(3, 4, 2, *(["relu"] if cell == "RNN" else []), False, True)
    assert repr(positional) == repr(getattr(nn, cell)(3, 4, 2, *(["relu"] if cell == "RNN" else []), False, True))


@cells
@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("freeze", [False, True])
def test_copies(cell: str, way: Any, freeze: bool) -> None:
    _, ours = pair(cell, num_layers=2)
    x = torch.randn(T, B, I, dtype=torch.float64)
    with torch.no_grad():
        expected = (ft.freeze(ours) if freeze else ours)(x)[0]
        made = way(ours)
        assert type(made) is type(ours)
        assert torch.equal(made(x)[0], expected)
    made(x)[0].sum().backward()


def test_other_devices_and_dtypes_run_on_torch() -> None:
    half = ft.LSTM(I, H, dtype=torch.bfloat16)
    assert half(torch.zeros(T, B, I, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    assert ft.GRU(I, H, device="meta")(torch.zeros(T, B, I, device="meta"))[0].shape == (T, B, H)
    theirs, ours = pair("RNN", torch.float32)  # PyTorch's LSTM under autocast needs AVX-512
    x = torch.randn(T, B, I)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x)[0].dtype == torch.bfloat16
        assert torch.equal(ours(x)[0], theirs(x)[0])
    assert ours(torch.zeros(T, 0, I))[0].shape == (T, 0, H)


def test_transforms_of_torch_func_run_on_torch() -> None:
    theirs, ours = pair("GRU")
    x = torch.randn(T, B, I, dtype=torch.float64)
    losses = [lambda x, m=module: m(x)[0].pow(2).sum() for module in (ours, theirs)]
    torch.testing.assert_close(*(torch.func.grad(loss)(x) for loss in losses), rtol=1e-12, atol=1e-12)
    along = torch.ones_like(x)
    with torch.no_grad():
        tangents = [torch.func.jvp(loss, (x,), (along,))[1] for loss in losses]
    assert float(tangents[0]) != 0
    torch.testing.assert_close(*tangents, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_tracing_scripting_and_exporting_give_torch() -> None:
    for cell in CELLS:
        theirs, ours = pair(cell, torch.float32)
        x = torch.randn(T, B, I)
        expected = theirs(x)[0]
        for made in (
            torch.jit.trace(ours, x, check_trace=False),
            torch.export.export(ours, (x,)).module(),
            torch.jit.script(nn.Sequential(copy.deepcopy(ours)))[0],
        ):
            torch.testing.assert_close(made(x)[0], expected)


@cells
def test_fx_is_refused_before_anything_is_changed(cell: str) -> None:
    _, ours = pair(cell)
    model = nn.Sequential(ours)
    with pytest.raises(TypeError, match=rf"\[{cell}\] input: expected tensors .*restore.* got a Proxy of torch.fx"):
        torch.fx.symbolic_trace(model)
    assert all(isinstance(w, nn.Parameter) for w in ours._flat_weights)
    x = torch.randn(T, B, I, dtype=torch.float64)
    expected = model(x)[0]
    torch.testing.assert_close(torch.fx.symbolic_trace(ft.restore(model))(x)[0], expected, rtol=1e-12, atol=1e-12)


ERRORS = {
    "rank": lambda m: m(torch.zeros(2, 3, 4, I)),
    "features": lambda m: m(torch.zeros(T, B, I + 1)),
    "dtype": lambda m: m(torch.zeros(T, B, I, dtype=torch.float64)),
    "integers": lambda m: m(torch.zeros(T, B, I, dtype=torch.int64)),
    "steps": lambda m: m(torch.zeros(0, B, I)),
    "state shape": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B + 1, H),) * 2),
    "state rank": lambda m: m(torch.zeros(T, I), (torch.zeros(1, 1, H),) * 2),
    "one state": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B, H),)),
    "cell shape": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B, H), torch.zeros(2, B, H))),
    "state dtype": lambda m: m(torch.zeros(T, B, I), (torch.zeros(1, B, H, dtype=torch.float64),) * 2),
    "not a tensor": lambda m: m(np.zeros((T, B, I), np.float32)),
}


@pytest.mark.parametrize("wrong", ERRORS)
def test_errors_are_those_of_torch(wrong: str) -> None:
    theirs, ours = pair("LSTM", torch.float32)
    found = []
    for module in (theirs, ours):
        with pytest.raises(Exception) as error:
            ERRORS[wrong](module)
        found.append((type(error.value), str(error.value)))
    assert found[0] == found[1]


@cells
def test_packed_shapes_are_checked(cell: str) -> None:  # torch.nn.LSTM does not
    _, ours = pair(cell, torch.float32)
    with pytest.raises(RuntimeError, match=f"Expected {I}, got {I + 1}"):
        ours(pack_sequence([torch.zeros(3, I + 1)]))
    for shape in ((1, 1, H + 1), (2, 1, H), (1, 2, H)):
        state = torch.zeros(shape)
        with pytest.raises(RuntimeError, match="Expected hidden"):
            ours(pack_sequence([torch.zeros(3, I)]), (state, state) if cell == "LSTM" else state)


def test_constructor_refuses() -> None:
    with pytest.raises(ValueError, match=r"\[LSTM\] proj_size: expected 0 .* got 2"):
        ft.LSTM(I, H, proj_size=2)
    with pytest.raises(ValueError, match="nonlinearity"):
        ft.RNN(I, H, nonlinearity="gelu")
    with pytest.raises(ValueError, match="hidden_size"):
        ft.GRU(I, 0)


def test_without_pytorch_one_sentence() -> None:
    import subprocess
    import sys

    code = "import sys; sys.modules['torch'] = None; import fastrnn; from fastrnn import *; fastrnn.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("ImportError: [fastrnn.torch] needs PyTorch: pip install 'fastrnn[torch]'.")
