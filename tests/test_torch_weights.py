"""fastrnn.torch: weights packed ahead (freeze), and to and from the layers of fastrnn.layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import fastrnn.torch as ft  # noqa: E402
from torch_tools import B, H, I, T, cells, one_thread, pair  # noqa: E402, F401

# ---- freeze ---------------------------------------------------------------------------------------------------------


def test_freeze_packs_once_and_follows_counted_changes(monkeypatch: Any) -> None:
    theirs, ours = pair("LSTM", bidirectional=True, num_layers=2)
    model = nn.ModuleDict({"a": ours})
    packed: list[str] = []
    original = ft.packing.F.pack_weights
    monkeypatch.setattr(
        ft.packing.F, "pack_weights", lambda cell, *a, **k: (packed.append(cell), original(cell, *a, **k))[1]
    )
    assert ft.freeze(model) is model
    assert len(packed) == 4
    x = torch.randn(T, B, I, dtype=torch.float64)

    def check(times: int) -> None:
        for _ in range(2):
            with torch.no_grad():
                torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)
        assert len(packed) == 4 * times

    check(1)
    optimizer = torch.optim.SGD([*ours.parameters(), *theirs.parameters()], 0.1)
    for module in (ours, theirs):  # gradients come from the weights themselves
        module(x)[0].pow(2).sum().backward()
    optimizer.step()
    check(2)
    for module in (ours, theirs):
        module.load_state_dict({k: v * 1.5 for k, v in theirs.state_dict().items()})
    check(3)
    for module in (ours, theirs):
        module.bias_ih_l0 = nn.Parameter(torch.ones(4 * H, dtype=torch.float64))
    check(4)
    for module in (ours, theirs):
        module.weight_ih_l0.data = torch.ones(4 * H, I, dtype=torch.float64)
    check(5)
    assert ft.unfreeze(model) is model
    check(5)


def test_freeze_in_reduced_precision() -> None:
    _, ours = pair("LSTM", torch.float32)
    x = torch.randn(T, B, I)
    with torch.no_grad():
        exact = ours(x)[0]
        rounded = ft.freeze(ours, "bfloat16")(x)[0]
        assert 0 < float((rounded - exact).abs().max()) < 2e-2
    _, double = pair("LSTM")
    with pytest.raises((TypeError, ValueError), match="float32 for int8, got float64"):
        ft.freeze(double, "int8")
    with pytest.raises(ValueError, match=r"\[freeze\] precision: expected None or one of .*, got 'nonsense'"):
        ft.freeze(ft.LSTM(2, 3, device="meta"), "nonsense")
    with pytest.raises(ValueError, match=r"\[freeze\] model: expected a module with a layer of fastrnn.torch"):
        ft.freeze(nn.LSTM(2, 3))
    with pytest.raises(TypeError, match=r"\[freeze\] model: expected a torch.nn.Module, got int"):
        ft.freeze(3)


# ---- layers ---------------------------------------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layers_and_back(cell: str, layers: int, bidirectional: bool, bias: bool, dtype: Any) -> None:
    theirs, _ = pair(cell, dtype, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=True)
    x = torch.randn(B, T, I, dtype=dtype)
    expected, last = theirs(x)
    last = last[0] if cell == "LSTM" else last
    tolerance = 1e-12 if dtype is torch.float64 else 1e-6
    y: Any = x.numpy()
    made = ft.to_layers(theirs)
    for layer in made:
        y = layer(y)
    assert y.dtype == x.numpy().dtype
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=tolerance)

    y = x.numpy()
    for layer in ft.to_layers(theirs, return_sequences=False):
        y = layer(y)
    final = torch.cat([last[-2], last[-1]], 1) if bidirectional else last[-1]
    np.testing.assert_allclose(y, final.detach().numpy(), rtol=0, atol=tolerance)

    back = ft.restore(ft.from_layers(made))
    assert type(back) is type(theirs) and repr(back) == repr(theirs)
    torch.testing.assert_close(back(x)[0], expected, rtol=0, atol=tolerance)
    for (name, one), other in zip(theirs.named_parameters(), back.parameters(), strict=True):
        if "bias" not in name or cell == "GRU":
            assert torch.equal(one, other), name


def test_dropout_between_layers_goes_along() -> None:
    module = nn.GRU(3, 4, 3, batch_first=True, dropout=0.25)
    made = ft.to_layers(module)
    assert [type(layer).__name__ for layer in made] == ["GRU", "Dropout", "GRU", "Dropout", "GRU"]
    assert ft.from_layers(made).dropout == 0.25


def built(kind: str, **options: Any) -> Any:
    import fastrnn.layers as L

    layer = getattr(L, kind)(4, **{"return_sequences": True, **options})
    layer.build((2, 5, 4))
    return layer


def test_layers_that_pytorch_has_not_are_named() -> None:
    import fastrnn.layers as L

    refused = {
        "activation='tanh', got 'relu'": [built("LSTM", activation="relu")],
        "recurrent_activation='sigmoid', got 'hard_sigmoid'": [built("GRU", recurrent_activation="hard_sigmoid")],
        "reset_after=True, got False": [built("GRU", reset_after=False)],
        "go_backwards=False, got True": [built("LSTM", go_backwards=True)],
        "dropout=0, got 0.5": [built("LSTM", dropout=0.5)],
        "recurrent_dropout=0, got 0.5": [built("LSTM", recurrent_dropout=0.5)],
        r"layers\[0\].*return_sequences=True, got False": [built("LSTM", return_sequences=False), built("LSTM")],
        r"layers\[1\].*cell='lstm', got 'gru'": [built("LSTM"), built("GRU")],
        r"layers\[1\].*use_bias=True, got False": [built("LSTM"), built("LSTM", use_bias=False)],
        "a built layer": [L.LSTM(4)],
        "at least one recurrent layer": [],
        "got Dense": [L.Dense(3)],
        "dropout between two": [built("LSTM"), L.Dropout(0.5)],
        "one rate": [built("LSTM"), L.Dropout(0.5), built("LSTM"), built("LSTM")],
        r"layers\[1\].*1 direction": [built("LSTM"), bidirectional := L.Bidirectional(L.LSTM(4))],
        "got SpatialDropout1D": [built("LSTM"), L.SpatialDropout1D(0.5), built("LSTM")],
        "noise_shape=None": [built("LSTM"), L.Dropout(0.5, noise_shape=(None, 1, None)), built("LSTM")],
        "return_state=False, got True": [built("LSTM", return_state=True)],
        "merge_mode='concat', got 'sum'": [summed := L.Bidirectional(L.LSTM(4), merge_mode="sum")],
    }
    for layer in (bidirectional, summed):
        layer.build((2, 5, 4))
    for words, layers in refused.items():
        with pytest.raises((TypeError, ValueError), match=r"\[from_layers\].*" + words):
            ft.from_layers(layers)
    with pytest.raises(TypeError, match=r"\[to_layers\] module: expected a torch.nn.RNN, LSTM or GRU, got Linear"):
        ft.to_layers(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="proj_size=0, got 2"):
        ft.to_layers(nn.LSTM(2, 3, proj_size=2))
    with pytest.raises(ValueError, match="got bfloat16"):
        ft.to_layers(nn.LSTM(2, 3, dtype=torch.bfloat16))


def test_layers_and_the_meta_device() -> None:
    with pytest.raises(ValueError, match=r"\[to_layers\] module: expected weights with values, got .* device meta"):
        ft.to_layers(nn.LSTM(2, 3, device="meta"))
    layer = built("LSTM")
    with torch.device("meta"):
        module = ft.from_layers(layer)
    x = torch.randn(2, 5, 4)
    np.testing.assert_allclose(module(x)[0].detach().numpy(), layer(x.numpy()), rtol=0, atol=1e-6)


def test_frozen_inference_tensors_follow_every_change() -> None:
    with torch.inference_mode():
        ours, other = ft.LSTM(3, 4), ft.LSTM(3, 4)
        x = torch.randn(2, 2, 3)
        ft.freeze(ours)(x)
        ours.load_state_dict(other.state_dict())
        torch.testing.assert_close(ours(x)[0], other(x)[0])
        for module in (ours, other):
            module.weight_hh_l0.mul_(2)
        torch.testing.assert_close(ours(x)[0], other(x)[0])
