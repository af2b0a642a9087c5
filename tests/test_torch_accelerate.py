"""accelerate and restore: modules inside existing models, with their optimizers, hooks, parametrizations, owners."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize  # noqa: E402

import fastrnn.torch as ft  # noqa: E402
from torch_tools import CELLS, one_thread  # noqa: E402, F401


class Tagger(nn.Module):
    """Three recurrent layers, one of them used twice, one inside a list."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 5)
        self.encoder = nn.LSTM(5, 4, batch_first=True, bidirectional=True, num_layers=2)
        self.stack = nn.ModuleList([nn.GRU(8, 8, batch_first=True), nn.RNN(8, 8, batch_first=True)])
        self.again = self.stack[0]
        self.kept_outside_modules = [self.encoder]
        self.linear = nn.Linear(8, 3)

    def forward(self, ids: Any) -> Any:
        x = self.kept_outside_modules[0](self.embedding(ids))[0]
        for layer in (*self.stack, self.again):
            x = layer(x)[0]
        return self.linear(x[:, -1])


def training(model: Any, steps: int, optimizer: Any) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        ids, labels = (torch.randint(n, s, generator=generator) for n, s in ((11, (6, 9)), (3, (6,))))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(ids), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def made(dtype: Any = torch.float64) -> Any:
    torch.manual_seed(0)
    return Tagger().to(dtype)


def test_optimizers_go_on_through_accelerate_and_restore() -> None:
    models, losses = [made(), made()], []
    for model, swap in zip(models, (True, False), strict=True):
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        found = []
        for change in (None, ft.accelerate, ft.restore, ft.accelerate):
            if swap and change is not None:
                assert change(model) is model
                assert type(model.encoder) is (nn.LSTM if change is ft.restore else ft.LSTM)
            found += training(model, 4, optimizer)
        losses.append(found)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert losses[0][-1] != losses[0][0]
    for one, other in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_every_layer_and_nothing_else_is_replaced() -> None:
    model = made()
    before = {name: id(p) for name, p in model.named_parameters()}
    modules = {name: (id(m), type(m)) for name, m in model.named_modules()}
    ft.accelerate(model)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert type(model.encoder) is ft.LSTM and type(model.stack[0]) is ft.GRU and type(model.stack[1]) is ft.RNN
    assert model.again is model.stack[0] and model.kept_outside_modules[0] is model.encoder
    ft.accelerate(model)  # once more changes nothing
    ft.restore(model)
    assert {name: (id(m), type(m)) for name, m in model.named_modules()} == modules
    assert "_frozen" not in model.encoder.__dict__


@pytest.mark.parametrize("cell", CELLS)
def test_the_module_itself(cell: str) -> None:
    module = getattr(nn, cell)(3, 4)
    x = torch.randn(5, 2, 3)
    expected = module(x)[0]
    assert ft.accelerate(module) is module and type(module) is getattr(ft, cell)
    torch.testing.assert_close(module(x)[0], expected)
    ft.freeze(module)
    assert ft.restore(module) is module and type(module) is getattr(nn, cell)
    assert torch.equal(module(x)[0], expected)
    assert type(ft.restore(getattr(ft, cell)(3, 4))) is getattr(nn, cell)


def test_hooks_flags_and_names_are_kept() -> None:
    model = made().eval()
    model.encoder.train()
    model.encoder.weight_hh_l0.requires_grad_(False)
    seen: list[str] = []
    model.encoder.register_forward_hook(lambda m, a, r: seen.append("forward"))
    model.encoder.register_forward_pre_hook(lambda m, a: seen.append("pre"))
    model.encoder.register_full_backward_hook(lambda m, i, o: seen.append("backward"))
    words = repr(model)
    ft.accelerate(model)
    assert repr(model) == words
    assert model.encoder.training and not model.stack[0].training
    model(torch.zeros(2, 3, dtype=torch.long)).sum().backward()
    assert seen == ["pre", "forward", "backward"]
    assert model.encoder.weight_hh_l0.grad is None and model.encoder.weight_ih_l0.grad is not None


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_accelerated_models_are_copied_and_saved(way: Any) -> None:
    model = ft.accelerate(made())
    copied = way(model)
    ids = torch.randint(11, (2, 6))
    assert torch.equal(copied(ids), model(ids))
    assert type(copied.encoder) is ft.LSTM
    plain = made()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(ids), model(ids), rtol=1e-12, atol=1e-12)
    model.load_state_dict(plain.state_dict())


# ---- subclasses and parametrizations ------------------------------------------------------------------------------


class LastOutput(nn.LSTM):
    """A subclass whose forward calls torch.nn's."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size, batch_first=True)
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return super().forward(x)[0][:, -1]


@pytest.mark.parametrize("way", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_subclasses(monkeypatch: Any, way: Any) -> None:
    module = LastOutput(3)
    x = torch.randn(2, 4, 3)
    expected = module(x)
    words = repr(module)
    ft.accelerate(module)
    assert isinstance(module, LastOutput) and isinstance(module, ft.LSTM)
    assert repr(module) == words
    used = way(module)
    with monkeypatch.context() as patch:
        patch.setattr(nn.LSTM, "forward", None)
        torch.testing.assert_close(used(x), expected)
    assert used.calls == 2
    assert type(ft.restore(used)) is LastOutput
    torch.testing.assert_close(used(x), expected)


class Scale(nn.Module):
    def forward(self, w: Any) -> Any:
        return w * 0.5


@pytest.mark.parametrize("subclass", [False, True])
def test_parametrized_modules(monkeypatch: Any, subclass: bool) -> None:
    def model() -> Any:
        torch.manual_seed(4)
        module = (LastOutput(4) if subclass else nn.LSTM(4, 4, batch_first=True)).double()
        parametrizations.weight_norm(module, "weight_hh_l0")
        return parametrize.register_parametrization(module, "bias_ih_l0", Scale())

    ours, theirs = ft.accelerate(model()), model()
    assert isinstance(ours, ft.LSTM)
    x = torch.randn(3, 5, 4, dtype=torch.float64)

    def result(module: Any) -> Any:
        made = module(x)
        return made if subclass else made[0]

    for step in range(2):
        for module in (ours, theirs):
            module.zero_grad()
            with monkeypatch.context() as patch:
                if module is ours:
                    patch.setattr(nn.LSTM, "forward", None)
                result(module).pow(2).sum().backward()
        for (name, one), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12, msg=name)
            with torch.no_grad():
                one.sub_(one.grad), other.sub_(other.grad)
        assert step or not torch.equal(ours.bias_ih_l0, ours.parametrizations.bias_ih_l0.original)
    expected = result(theirs)
    torch.testing.assert_close(result(copy.deepcopy(ours)), expected, rtol=1e-10, atol=1e-12)
    restored = ft.restore(copy.deepcopy(ours))
    assert not isinstance(restored, ft.LSTM) and parametrize.is_parametrized(restored)
    torch.testing.assert_close(result(restored), expected, rtol=1e-10, atol=1e-12)
    # removing the parametrizations leaves our class, and restore then the first one
    for name in ("weight_hh_l0", "bias_ih_l0"):
        parametrize.remove_parametrizations(ours, name)
    assert isinstance(ours, ft.LSTM) and not parametrize.is_parametrized(ours)
    torch.testing.assert_close(result(ours), expected, rtol=1e-10, atol=1e-12)
    assert type(ft.restore(ours)) is (LastOutput if subclass else nn.LSTM)


def test_parametrized_after_accelerate() -> None:
    module = ft.accelerate(nn.GRU(3, 4))
    parametrizations.orthogonal(module, "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    ours = module(x)[0]
    ft.restore(module)
    assert not isinstance(module, ft.GRU)
    torch.testing.assert_close(module(x)[0], ours)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_norm_by_hooks() -> None:
    torch.manual_seed(2)
    module = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    expected = module(x)[0]
    torch.testing.assert_close(ft.accelerate(module)(x)[0], expected)
    with torch.no_grad():
        module.weight_hh_l0_g.mul_(2)
    ours = module(x)[0]
    assert not torch.allclose(ours, expected)
    torch.testing.assert_close(ft.restore(module)(x)[0], ours)


# ---- what cannot be replaced ----------------------------------------------------------------------------------------


def unsuitable() -> dict[str, Any]:
    replaced = nn.LSTM(2, 3)
    replaced.forward = lambda x: x
    return {
        r"\(LSTM\): expected proj_size=0, got 2": nn.LSTM(2, 3, proj_size=2),
        r"\(GRU\): expected float32 or float64 weights, got bfloat16": nn.GRU(2, 3, dtype=torch.bfloat16),
        r"\(RNN\): expected float32 or float64 weights, got float16": nn.RNN(2, 3, dtype=torch.float16),
        r"\(LSTM\): expected weights on the CPU, got meta": nn.LSTM(2, 3, device="meta"),
        r"\(LSTM\): expected the forward of its class, got one set on the instance": replaced,
    }


@pytest.mark.parametrize("words", unsuitable())
def test_unsuitable_modules_are_named(words: str) -> None:
    module = unsuitable()[words]
    kind = type(module)
    with pytest.raises(ValueError, match=r"\[accelerate\] model " + words):
        ft.accelerate(module)
    model = nn.ModuleDict({"odd": module, "even": nn.GRU(2, 3)})
    with pytest.raises(ValueError, match=r"\[accelerate\] odd " + words):
        ft.accelerate(model, strict=True)
    assert type(model["even"]) is nn.GRU  # nothing was replaced
    with pytest.warns(UserWarning, match=r"\[accelerate\] left as they are: odd " + words):
        ft.accelerate(model)
    assert type(model["odd"]) is kind and type(model["even"]) is ft.GRU


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_quantized_modules_are_named() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.LSTM(2, 3)))
    with pytest.raises(ValueError, match=r"\[accelerate\] 0 \(LSTM\): expected a module in Python, got a scripted one"):
        ft.accelerate(scripted)
    quantized = pytest.importorskip("torch.ao.nn.quantized.dynamic")
    try:
        layer = quantized.LSTM(2, 3)
    except RuntimeError:  # no engine for it here
        pytest.skip("no quantized kernels")
    with pytest.raises(ValueError, match=r"0 \(LSTM\): expected float weights, got a quantized module"):
        ft.accelerate(nn.Sequential(layer))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"\[accelerate\] model: expected a module with a torch.nn.RNN, .* got Linear"):
        ft.accelerate(nn.Linear(2, 3))
    for function in (ft.accelerate, ft.restore):
        with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got str"):
            function("model")
    with pytest.raises(TypeError, match=r"\[accelerate\] strict: expected True or False, got 1"):
        ft.accelerate(nn.LSTM(2, 3), strict=1)

    class Mine(ft.LSTM):
        pass

    with pytest.raises(ValueError, match=r"\[restore\] 0: expected a module that accelerate replaced, got a Mine"):
        ft.restore(nn.Sequential(Mine(2, 3)))
    assert type(ft.restore(nn.Sequential(nn.LSTM(2, 3)))[0]) is nn.LSTM


def test_nothing_is_replaced_where_a_class_cannot_be_derived_from() -> None:
    class Final(nn.LSTM):
        def __init_subclass__(cls, **options: Any) -> None:
            raise TypeError("this class is final")

    model = nn.Sequential(nn.GRU(3, 4), Final(4, 4))
    with pytest.raises(ValueError, match=r"1 \(Final\).*this class is final"):
        ft.accelerate(model, strict=True)
    assert type(model[0]) is nn.GRU
    with pytest.warns(UserWarning, match="this class is final"):
        ft.accelerate(model)
    assert type(model[0]) is ft.GRU
    assert type(model[1]) is Final


def test_a_class_that_refuses_attributes() -> None:
    class Sealed(nn.LSTM):
        def __setattr__(self, name: str, value: Any) -> None:
            if "sealed" in self.__dict__:
                raise AttributeError(f"{name} cannot be set")
            super().__setattr__(name, value)

    model = nn.Sequential(nn.GRU(3, 4), Sealed(4, 4))
    model[1].__dict__["sealed"] = True
    assert [isinstance(m, ft.modules.Kernels) for m in ft.accelerate(model)] == [True, True]
    assert [type(m) for m in ft.restore(model)] == [nn.GRU, Sealed]


def test_an_accelerated_model_moves_to_other_dtypes() -> None:
    model = ft.accelerate(nn.LSTM(3, 4))
    x = torch.randn(5, 2, 3)
    expected = model(x)[0]
    torch.testing.assert_close(model.double()(x.double())[0], expected.double(), rtol=1e-4, atol=1e-6)
    assert model.bfloat16()(x.bfloat16())[0].dtype == torch.bfloat16
    torch.testing.assert_close(model.float()(x)[0], expected, rtol=0, atol=2e-2)


def test_compiled_models_break_the_graph_and_stay_right() -> None:
    model = made(torch.float32)
    ids = torch.randint(11, (4, 6))
    expected = model(ids)
    ft.accelerate(model)
    calls: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append("graph")
        return graph.forward

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(model, backend=backend)
        result = compiled(ids)
    torch.testing.assert_close(result, expected)
    assert calls
    result.sum().backward()
    assert model.encoder.weight_ih_l0.grad is not None
