"""Saved models: what comes back, that a file is never half written, and that bad files are refused before they harm."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import layers as L
from fastrnn import saving
from fastrnn.callbacks import LambdaCallback
from fastrnn.losses import BinaryCrossentropy
from fastrnn.metrics import AUC
from fastrnn.models import Sequential, load_model, save_model
from fastrnn.optimizers import SGD, Adam, Nadam
from fastrnn.optimizers.schedules import CosineDecay
from fastrnn.training import schedules
from model_tools import data, linear, shake

safetensors = pytest.importorskip("safetensors.numpy")

IDS = np.random.default_rng(0).integers(0, 9, (12, 8))
LABELS = IDS[:, 0] % 2


def text_model(**compiled: Any) -> Sequential:
    model = Sequential(
        [
            L.Embedding(9, 4, mask_zero=True),
            L.Bidirectional(L.LSTM(3, return_sequences=True, activation="relu")),
            L.SpatialDropout1D(0.2),
            L.Conv1D(4, 3, padding="causal", activation=("elu", 0.5)),
            L.Attention(),
            L.Dense(1, activation="sigmoid", kernel_regularizer="l2"),
        ],
        name="reviews",
    )
    model.build((None, 8))
    shake(model)
    model.compile(
        **{"optimizer": Adam(0.01), "loss": "binary_crossentropy", "metrics": ["accuracy", AUC()], **compiled}
    )
    return model


def same_weights(a: Sequential, b: Sequential) -> None:
    for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(v, w)


def test_a_model_comes_back_whole(tmp_path: Path) -> None:
    model = text_model()
    model.fit(IDS, LABELS, verbose=0)
    path = tmp_path / "m.safetensors"
    model.extra["vocabulary"] = "the and"
    model.save(path, extra={"dataset": "sample ä"})
    again = load_model(path)
    same_weights(model, again)
    assert again.get_config() == model.get_config() and again.name == "reviews"
    assert again.extra == {"vocabulary": "the and", "dataset": "sample ä"}
    assert [v.name for v in again.weights] == [v.name for v in model.weights]
    np.testing.assert_array_equal(again.predict(IDS, verbose=0), model.predict(IDS, verbose=0))
    assert again.evaluate(IDS, LABELS, verbose=0) == model.evaluate(IDS, LABELS, verbose=0)
    assert again.metrics_names == model.metrics_names
    save_model(again, tmp_path / "n.safetensors")
    assert (tmp_path / "n.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("optimizer", [
    Adam(0.01, amsgrad=True), SGD(0.05, momentum=0.9), Nadam(0.01), Adam(CosineDecay(0.1, 9), use_ema=True), "adagrad",
])  # fmt: skip
def test_training_goes_on_as_if_it_had_not_been_saved(tmp_path: Path, optimizer: Any) -> None:
    x, y = data(10)
    model = linear(optimizer=optimizer, activation="sigmoid", loss=BinaryCrossentropy(label_smoothing=0.1))
    model.fit(x, y, epochs=3, batch_size=4, shuffle=False, verbose=0)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    for m in (model, again):
        m.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    same_weights(model, again)
    model.save(tmp_path / "m", include_optimizer=False)
    fresh = load_model(tmp_path / "m")
    assert fresh.optimizer is not None and fresh.optimizer.iterations == 0


def test_without_compiling(tmp_path: Path) -> None:
    text_model().save(tmp_path / "m")
    assert load_model(tmp_path / "m", compile=False).optimizer is None
    model = Sequential([L.Input((3,)), L.Dense(2)])
    model.save(tmp_path / "m")
    assert load_model(tmp_path / "m").optimizer is None


def test_frozen_inner_layers_stay_frozen(tmp_path: Path) -> None:
    model = text_model()
    model.layers[0].trainable = False
    model.layers[1]._sublayers()[1].trainable = False
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert [len(layer.trainable_weights) for layer in again.layers] == [0, 3, 0, 2, *[
        len(layer.trainable_weights) for layer in model.layers[4:]
    ]]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_stateful_shapes(tmp_path: Path, dtype: str) -> None:
    model = Sequential([L.GRU(3, stateful=True, batch_input_shape=(2, 4, 1), dtype=dtype), L.Dense(1, dtype=dtype)])
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.weights[0].dtype == dtype and again.fixed_batch_size == 2
    same_weights(model, again)


def test_pretrained_tables_are_written_once(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(500, 16))
    model = Sequential([L.Input((4,)), L.Embedding(500, 16, embeddings_initializer=table), L.Flatten(), L.Dense(1)])
    model.save(tmp_path / "m")
    assert (tmp_path / "m").stat().st_size < 4 * 500 * 16 + 4 * 65 + 4000
    same_weights(model, load_model(tmp_path / "m"))


def test_what_cannot_be_written_is_left_out_with_a_warning(tmp_path: Path) -> None:
    model = linear(loss=lambda y, p: ((y - p) ** 2, 2 * (p - y)))
    with pytest.warns(UserWarning, match="saved without its compile arguments"):
        model.save(tmp_path / "m")
    assert load_model(tmp_path / "m").optimizer is None


def test_a_users_own_layer(tmp_path: Path) -> None:
    class Twice(L.Layer):
        def _forward(self, x: Any, training: bool, mask: Any) -> Any:
            return 2 * x

    model = Sequential([L.Input((3,)), L.Dense(2), Twice()])
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"makes no model .*class_name: expected one of"):
        load_model(tmp_path / "m")
    again = load_model(tmp_path / "m", custom_objects={"Twice": Twice})
    x = np.ones((2, 3))
    np.testing.assert_array_equal(again(x), model(x))


def test_weights_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    class Two(L.Layer):
        def _build(self, input_shape: Any) -> None:
            for _ in range(2):
                self.add_weight("w", (2,), "glorot_uniform")

        def _forward(self, x: Any, training: bool, mask: Any) -> Any:
            return x

    model = Sequential([L.Input((2,)), Two(name="two")])
    assert list(model.named_weights()) == ["two/w", "two/w_1"]
    model.save(tmp_path / "m")
    same_weights(model, load_model(tmp_path / "m", custom_objects={"Two": Two}))


# ---- weights alone ------------------------------------------------------------------------------------------------


def test_weights_go_by_name_or_by_position(tmp_path: Path) -> None:
    model, other = text_model(), text_model()
    shake(other, 5)
    assert [layer.name for layer in model.layers] != [layer.name for layer in other.layers]
    model.save_weights(tmp_path / "w")
    other.load_weights(tmp_path / "w")
    same_weights(model, other)
    shake(other, 5)
    model.fit(IDS, LABELS, verbose=0)
    model.save(tmp_path / "m")
    other.load_weights(tmp_path / "m")
    same_weights(model, other)
    clone = Sequential.from_config(model.get_config())
    clone.load_weights(tmp_path / "m")
    same_weights(model, clone)


def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path: Path) -> None:
    text_model().save_weights(tmp_path / "w")
    for model, message in [
        (linear(), r"got \d+ weights, not 2"),
        (Sequential([L.Input((3,)), L.Dense(1, use_bias=False)]), "weights, not 1"),
    ]:
        before = model.get_weights()
        with pytest.raises(ValueError, match=message):
            model.load_weights(tmp_path / "w")
        np.testing.assert_array_equal(before[0], model.get_weights()[0])
    linear(outputs=2).save_weights(tmp_path / "v")
    model = linear()
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"of shape \(3, 2\), float32, not \(3, 1\), float32"):
        model.load_weights(tmp_path / "v")
    np.testing.assert_array_equal(before[0], model.get_weights()[0])
    with pytest.raises(ValueError, match=r"\[load_weights\] model: expected a built model"):
        Sequential([L.Dense(1)]).load_weights(tmp_path / "v")
    with pytest.raises(ValueError, match="got a file of weights"):
        load_model(tmp_path / "v")


# ---- writing ------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m"
    linear().save(path)
    before = path.read_bytes()
    model = linear(outputs=2)

    for name in ("fsync", "replace"):

        def fail(*_: Any) -> None:
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="disk full"):
                model.save(path)
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["m"]
    with monkeypatch.context() as patch:

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m"]
    model.save(path)
    same_weights(load_model(path), model)


def test_permissions_and_links(tmp_path: Path) -> None:
    linear().save(tmp_path / "m")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "link").symlink_to(tmp_path / "m")
    model = linear(outputs=2)
    model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    same_weights(load_model(tmp_path / "m"), model)


@pytest.mark.parametrize(
    ("save", "error", "message"),
    [
        (lambda p: linear().save(p / "m.keras"), ValueError, r"\[save\] filepath: .* such as m\.safetensors, got"),
        (lambda p: linear().save(p / "m.h5"), ValueError, r"\[save\] filepath: expected a name for a fastrnn"),
        (lambda p: linear().save_weights(p / "m.weights.h5"), ValueError, r"\[save_weights\] filepath"),
        (lambda p: linear().save(p), ValueError, r"\[save\] filepath: expected a file, got the folder"),
        (lambda p: linear().save(p / "no" / "m"), FileNotFoundError, r"\[save\] filepath: expected an existing folder"),
        (lambda p: linear().save(""), TypeError, r"\[save\] filepath: expected a path"),
        (lambda p: linear().save(p / "m", extra={"a": 3}), TypeError, r"\[save\] extra: expected strings"),
        (lambda p: Sequential([L.Dense(1)]).save(p / "m"), ValueError, r"\[save\] model: expected a built model"),
        (lambda p: Sequential([L.Input((1,)), L.Dense(1, name="optimizer")]).save(p / "m"), ValueError, "other than"),
    ],
)
def test_bad_saves(tmp_path: Path, save: Callable[[Path], None], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_overwrite(tmp_path: Path) -> None:
    linear().save(tmp_path / "m")
    with pytest.raises(FileExistsError, match=r"\[save\] filepath: expected a new file"):
        linear().save(tmp_path / "m", overwrite=False)


# ---- reading what is not ours -------------------------------------------------------------------------------------


def rewrite(path: Path, tensors: Callable[[Any], Any] | None = None, config: Callable[[Any], Any] | None = None,
            metadata: Callable[[Any], Any] | None = None, raw: str | None = None) -> None:  # fmt: skip
    """Change a saved model the way a bad or malicious writer could."""
    with saving_open(path) as file:
        meta = json.loads(file.metadata()["fastrnn"])
        arrays = {k: file.get_tensor(k) for k in file.keys()}
    if config is not None:
        changed = config(meta["config"])
        meta["config"] = meta["config"] if changed is None else changed
    if tensors is not None:
        tensors(arrays)
    if metadata is not None:
        metadata(meta)
    text = json.dumps(meta)
    safetensors.save_file(arrays, path, {"fastrnn": text if raw is None else raw})


def saving_open(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path, framework="np")


def layer(config: Any, k: int) -> Any:
    return config["model"]["layers"][k]["config"]


def put(where: Any, key: str, value: Any) -> None:
    where[key] = value


def drop(where: Any, key: str) -> None:
    del where[key]


DAMAGE: list[tuple[str, dict[str, Any], str]] = [
    ("missing tensor", {"tensors": lambda t: t.pop("d/kernel")}, "got no tensor 'd/kernel'"),
    ("extra tensor", {"tensors": lambda t: put(t, "d/extra", np.zeros(3, "f4"))}, "got an unknown tensor 'd/extra'"),
    ("wrong shape", {"tensors": lambda t: put(t, "d/kernel", t["d/kernel"].T.copy())}, r"'d/kernel' of shape \(1, 3\)"),
    ("wrong dtype", {"tensors": lambda t: put(t, "d/kernel", t["d/kernel"].astype("f8"))}, "float64, not"),
    ("integers", {"tensors": lambda t: put(t, "d/kernel", t["d/kernel"].astype("i4"))}, "'d/kernel' of dtype int32"),
    ("optimizer shape", {"tensors": lambda t: put(t, "optimizer/d/bias/m", np.zeros(9, "f4"))}, "optimizer tensors"),
    ("optimizer slot", {"tensors": lambda t: put(t, "optimizer/d/bias/q", np.zeros(1, "f4"))}, "optimizer tensors"),
    ("unknown layer", {"config": lambda c: put(c["model"]["layers"][2], "class_name", "Lambda")}, "class_name"),
    ("dunder layer", {"config": lambda c: put(c["model"]["layers"][2], "class_name", "__import__")}, "class_name"),
    ("base layer", {"config": lambda c: put(c["model"]["layers"][2], "class_name", "Layer")}, "class_name"),
    ("unknown argument", {"config": lambda c: put(layer(c, 2), "evil", 1)}, "evil"),
    ("bad argument", {"config": lambda c: put(layer(c, 2), "units", -5)}, "units"),
    ("huge layer", {"config": lambda c: put(layer(c, 2), "units", 10**12)}, "more than the whole file"),
    ("huge ids", {"config": lambda c: put(layer(c, 1), "input_dim", 2**62)}, "more than the whole file"),
    ("large layer", {"config": lambda c: put(layer(c, 2), "units", 4)}, "got tensor|more than the whole file"),
    ("table in config", {"config": lambda c: put(layer(c, 1), "weights", [[1.0]])}, "weights in the configuration"),
    ("no layers", {"config": lambda c: drop(c["model"], "layers")}, "makes no model"),
    ("no model", {"config": lambda c: drop(c, "model")}, "makes no model"),
    ("layers of numbers", {"config": lambda c: put(c["model"], "layers", [1, 2])}, "makes no model"),
    ("empty model", {"config": lambda c: put(c["model"], "layers", [])}, "makes no model|unknown tensor"),
    ("a list", {"config": lambda c: [1]}, "no 'config' of its metadata"),
    ("not JSON", {"raw": "{"}, "metadata that is not JSON"),
    ("deep JSON", {"raw": "[" * 100000}, "metadata that is not JSON"),
    ("JSON list", {"raw": "[]"}, "metadata that is not JSON"),
    ("no config", {"metadata": lambda m: drop(m, "config")}, "no 'config' of its metadata"),
    ("bad extra", {"metadata": lambda m: put(m, "extra", {"a": 1})}, "extra strings that are none"),
    ("other kind", {"metadata": lambda m: put(m, "format", "weights")}, r"a file of weights"),
    ("unknown kind", {"metadata": lambda m: put(m, "format", 7)}, r"a file of 7"),
    ("later version", {"metadata": lambda m: put(m, "version", 99)}, "version 99 of the format"),
    ("bad optimizer", {"config": lambda c: put(c["compile"]["optimizer"], "class_name", "x")}, "compile arguments"),
    (
        "bad rate",
        {"config": lambda c: put(c["compile"]["optimizer"]["config"], "learning_rate", -1)},
        "compile arguments",
    ),
    ("bad loss", {"config": lambda c: put(c["compile"], "loss", "os.system")}, "compile arguments"),
    ("bad state", {"config": lambda c: put(c, "optimizer_state", {"iterations": "many"})}, "an optimizer state that"),
]


def small(path: Path, optimizer: Any = "adam", steps: int = 1, names: tuple[str, str] = ("e", "d")) -> Sequential:
    """In the file: Input, Embedding, Dense, Flatten; and the state of the optimizer after `steps` steps."""
    model = Sequential([L.Input((1,)), L.Embedding(9, 3, name=names[0]), L.Dense(1, name=names[1]), L.Flatten()])
    model.compile(optimizer, "mse")
    for _ in range(steps):
        model.fit(np.ones((4, 1)), np.ones(4), verbose=0)
    model.save(path)
    return model


@pytest.mark.parametrize(("change", "message"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_damaged_models_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "m.safetensors"
    small(path)
    load_model(path)
    rewrite(path, **change)
    with pytest.raises(ValueError, match=message) as info:
        load_model(path)
    assert str(info.value).startswith(f"[load_model] {path}: expected a fastrnn model file, got ")


MISFITS: list[tuple[str, dict[str, Any], str]] = [
    ("weight", {"tensors": lambda t: put(t, "d/bias", np.zeros(2, "f4"))}, r"tensor 'd/bias' of shape \(2,\)"),
    ("shape", {"tensors": lambda t: put(t, "optimizer/d/bias/m", np.zeros(9, "f4"))}, "optimizer tensors"),
    ("dtype", {"tensors": lambda t: put(t, "optimizer/d/bias/m", np.zeros(1))}, "optimizer tensors"),
    ("one missing", {"tensors": lambda t: drop(t, "optimizer/d/kernel/v")}, r"optimizer tensors \['m'\] of 'd/kernel'"),
    ("one more", {"tensors": lambda t: put(t, "optimizer/d/bias/q", np.zeros(1, "f4"))}, "optimizer tensors"),
    ("whose", {"tensors": lambda t: put(t, "optimizer/x/m", np.zeros(1, "f4"))}, "'optimizer/x/m' of a weight that"),
    ("steps", {"config": lambda c: put(c["optimizer_state"], "iterations", -1)}, "an optimizer state that cannot"),
    ("product", {"config": lambda c: put(c["optimizer_state"], "product", 2)}, "an optimizer state that cannot"),
    ("a list", {"config": lambda c: put(c, "optimizer_state", [1])}, "an optimizer state that cannot be used"),
]


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("change", "message"), [d[1:] for d in MISFITS], ids=[d[0] for d in MISFITS])
def test_what_does_not_fit_restores_nothing(
    tmp_path: Path, change: dict[str, Any], message: str, trained: bool
) -> None:
    path = tmp_path / "m"
    small(path, Nadam())
    rewrite(path, **change)
    model = small(tmp_path / "other", Nadam(), steps=3 if trained else 0)
    optimizer = model.optimizer
    assert optimizer is not None

    def everything() -> tuple[Any, ...]:
        slots = [{k: a.copy() for k, a in optimizer.slots(v).items()} for v in model.weights if optimizer.has_slots(v)]
        return model.get_weights(), optimizer.get_state(), slots

    before = everything()
    with pytest.raises(ValueError, match=message) as info:
        saving.restore(model, path)
    assert str(info.value).startswith(f"[restore] {path}: expected a fastrnn model file, got ")
    np.testing.assert_equal(everything(), before)


def test_restoring_needs_an_optimizer_for_its_state(tmp_path: Path) -> None:
    small(tmp_path / "m")
    model = Sequential([L.Input((1,)), L.Embedding(9, 3, name="e"), L.Dense(1, name="d"), L.Flatten()])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"\[restore\] model: expected a compiled model, got one without compile"):
        saving.restore(model, tmp_path / "m")
    np.testing.assert_equal(model.get_weights(), before)
    with pytest.raises(ValueError, match=r"\[restore\] model: expected a built model"):
        saving.restore(Sequential([L.Dense(1)]), tmp_path / "m")


@pytest.mark.parametrize("names", [("e", "d"), ("table", "out")], ids=["by name", "by position"])
def test_a_restored_model_trains_on_as_the_saved_one(tmp_path: Path, names: tuple[str, str]) -> None:
    saved = small(tmp_path / "m", steps=4)
    if names == ("e", "d"):  # names go before places
        rewrite(tmp_path / "m", metadata=lambda m: m["order"].reverse())
    model = small(tmp_path / "other", names=names, steps=2)
    saving.restore(model, tmp_path / "m")
    for each in (saved, model):
        each.fit(np.ones((4, 1)), np.ones(4), verbose=0)
    same_weights(saved, model)


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    small(path)
    whole = path.read_bytes()
    for cut in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="expected a fastrnn model file, got something else or a damaged file"):
            load_model(path)
    for foreign in (b"PK\x03\x04" + whole, b"\x89HDF\r\n\x1a\n" + b"\0" * 100, b"\xff" * 64, b"\x80\x04." * 40,
                    (2**40).to_bytes(8, "little") + whole[8:], whole + b"\0" * 16):  # fmt: skip
        path.write_bytes(foreign)
        with pytest.raises(ValueError, match="expected a fastrnn model file, got"):
            load_model(path)
    safetensors.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="a safetensors file of another program"):
        load_model(path)
    with pytest.raises(FileNotFoundError, match="got no such file"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ValueError, match="got a folder"):
        load_model(tmp_path)
    for name in ("m.keras", "m.h5"):
        (tmp_path / name).write_bytes(whole)
        with pytest.raises(ValueError, match=rf"got a \.{name[2:]} file"):
            load_model(tmp_path / name)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    small(path)
    whole = bytearray(path.read_bytes())
    header = int.from_bytes(whole[:8], "little") + 8
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[int(rng.integers(0, header))] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        try:
            load_model(path)
        except ValueError as error:
            assert "expected a fastrnn model file, got" in str(error)
            refused += 1
    assert refused > 150


def test_a_checkpoint_is_whole_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "m"
    model = linear()
    loaded: list[Any] = []

    def check(batch: int, logs: Any) -> None:
        model.save(path)
        loaded.append(load_model(path).get_weights())

    model.fit(*data(12), batch_size=4, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=check)])
    np.testing.assert_array_equal(loaded[-1][0], model.get_weights()[0])
    assert os.listdir(tmp_path) == ["m"]


def test_only_known_classes_are_ever_looked_up() -> None:
    for deserialize in (schedules.deserialize, L.deserialize):
        with pytest.raises((ValueError, TypeError)):
            deserialize({"class_name": "builtins.eval", "config": {}})
    assert saving.VERSION == 1
