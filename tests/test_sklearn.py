"""fastrnn.sklearn: scikit-learn's own checks, and the things people do with estimators."""

# ruff: noqa: E402 - scikit-learn comes in only where it is installed

from __future__ import annotations

import os
import pickle
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
joblib = pytest.importorskip("joblib")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fastrnn import initializers, optimizers
from fastrnn.models import Sequential, load_model
from fastrnn.sklearn import RNNClassifier, RNNRegressor, TextClassifier

Array = np.ndarray[Any, Any]


def rising_or_falling(count: int, steps: int = 12, seed: int = 0) -> tuple[Array, Array]:
    """(B, T, 2): a noisy walk that drifts up or down, beside a channel of noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    walk = np.cumsum(rng.normal(size=(count, steps)) + 0.6 * (2 * y - 1)[:, None], axis=1)
    X = np.stack([walk, rng.normal(size=walk.shape)], axis=-1).astype(np.float32)
    return X, np.array(["down", "up"])[y]


def ragged(count: int, seed: int = 0) -> tuple[list[Array], Array]:
    """Sequences (T_i, 2), and the mean of their first channel's last three steps: padding that counted would hurt."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(int(n), 2)) for n in rng.integers(3, 12, count)]
    return X, np.array([x[-3:, 0].mean() for x in X])


def reviews(count: int, seed: int = 0) -> tuple[list[str], Array]:
    """A good or bad word, turned round by "not" right before it, among fillers."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        good, turned = rng.integers(0, 2, 2)
        words = list(rng.choice(["the", "film", "was", "long", "and", "we", "saw", "it"], rng.integers(3, 9)))
        at = int(rng.integers(0, len(words) + 1))
        words[at:at] = (["not"] if turned else []) + [str(rng.choice([["awful", "boring"], ["lovely", "great"]][good]))]
        texts.append(" ".join(words).capitalize() + ".")
        labels.append(["neg", "pos"][good ^ turned])
    return texts, np.array(labels)


# ---- scikit-learn's checks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [RNNClassifier(), RNNRegressor(), RNNClassifier("lstm"), RNNRegressor("rnn")], ids=str
)
def test_check_estimator(model: Any) -> None:
    """Every check passes, none of them marked as one to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(model, on_fail=None)
    names = {r["check_name"] for r in results}
    wrong = {r["check_name"]: (r["status"], r["exception"]) for r in results if r["status"] != "passed"}
    if "SCIPY_ARRAY_API" not in os.environ:  # without it scikit-learn itself leaves this one out
        wrong.pop("check_array_api_input", None)
    assert not wrong
    assert {"check_sample_weight_equivalence_on_dense_data", "check_estimators_pickle"} <= names
    assert len(results) >= 50


def test_check_estimator_of_texts() -> None:
    """scikit-learn has one check for estimators that take no 2-D numbers, and says of the others that it cannot run
    them: what they look at is tested below."""
    with pytest.warns(Warning, match="Can't test estimator"):
        results = check_estimator(TextClassifier())
    assert Counter(r["status"] for r in results) == {"passed": 1}


# ---- learning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"cell": "lstm", "bidirectional": True}, {"cell": "rnn"}, {"num_layers": 2}])
def test_classifies_sequences(options: dict[str, Any]) -> None:
    X, y = rising_or_falling(400)
    model = RNNClassifier(epochs=8, units=16, dropout=0.1, random_state=0, **options).fit(X[:300], y[:300])
    assert list(model.classes_) == ["down", "up"] and model.n_features_in_ == 2 and model.n_iter_ == 8
    assert model.score(X[300:], y[300:]) > 0.9
    p = model.predict_proba(X[300:])
    assert p.shape == (100, 2) and p.dtype == np.float32
    np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X[300:]))
    np.testing.assert_allclose(model.predict_log_proba(X[300:]), np.log(p))


def test_several_classes() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 300)
    X = np.sin(np.arange(16) * (0.3 + 0.4 * kind[:, None]) + rng.uniform(0, 6, (300, 1)))
    model = RNNClassifier(units=16, epochs=25, learning_rate=0.01, random_state=0).fit(X[:240], kind[:240] * 10)
    assert list(model.classes_) == [0, 10, 20] and model.predict_proba(X).shape == (300, 3)
    assert model.score(X[240:], kind[240:] * 10) > 0.9


def test_regression_of_several_targets_in_their_own_units() -> None:
    X, y = ragged(300)
    y = np.stack([1e5 + 1e4 * y, -3e-3 * y], axis=1)
    model = RNNRegressor(units=16, epochs=40, learning_rate=0.02, random_state=0).fit(X[:250], y[:250])
    assert model.score(X[250:], y[250:]) > 0.8
    predicted = model.predict(X[250:])
    assert predicted.shape == (50, 2) and predicted.dtype == np.float64
    one = model.predict(X[250:251])
    np.testing.assert_allclose(model.model_.predict(X[250][None])[0], one[0], rtol=1e-12)  # an ordinary model
    assert RNNRegressor(epochs=1).fit(X[:9], y[:9, 0]).predict(X[:4]).shape == (4,)


def test_class_weight_and_early_stopping() -> None:
    X, y = rising_or_falling(300)
    keep = np.flatnonzero((y == "down") | (np.arange(300) % 8 == 0))
    X, y = X[keep] * np.float32(0.1), y[keep]
    plain, balanced = (
        RNNClassifier(units=8, epochs=2, class_weight=w, random_state=0).fit(X, y) for w in (None, "balanced")
    )
    assert (balanced.predict(X) == "up").sum() > (plain.predict(X) == "up").sum()
    stopped = RNNClassifier(units=8, epochs=300, early_stopping=True, patience=1, random_state=0).fit(X, y)
    losses = stopped.history_["val_loss"]
    assert stopped.n_iter_ == len(losses) < 300 and losses[-1] > min(losses)


def test_weight_zero_is_no_sample_and_two_is_two() -> None:
    X, y = ragged(20)
    weight = np.arange(20) % 3
    model = RNNRegressor(units=4, epochs=5, random_state=0)
    weighted = clone(model).fit(X, y, sample_weight=weight).predict(X)
    repeated = clone(model).fit([x for x, w in zip(X, weight, strict=True) for _ in range(w)], y.repeat(weight))
    np.testing.assert_allclose(weighted, repeated.predict(X), rtol=1e-9)


# ---- what goes in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_unequal_sequences_give_what_each_gives_alone(cell: str) -> None:
    X, y = ragged(24)
    model = RNNRegressor(cell=cell, units=5, num_layers=2, bidirectional=True, epochs=2, random_state=0).fit(X, y)
    together = model.predict(X)
    alone = np.concatenate([model.predict(x[None]) for x in X])
    np.testing.assert_allclose(together, alone, rtol=1e-10)
    objects = np.empty(24, object)
    objects[:] = X
    np.testing.assert_array_equal(model.predict(objects), together)
    np.testing.assert_array_equal(model.predict([x.tolist() for x in X]), together)


def test_training_on_unequal_sequences_ignores_the_padding() -> None:
    """The same data with what is too short cut off by hand: training on lists of one length equals the array."""
    X = np.random.default_rng(1).normal(size=(16, 6, 2))
    y = X[:, -1, 0]
    options = {"units": 4, "epochs": 3, "random_state": 0, "batch_size": 4}
    array, sequences = RNNRegressor(**options).fit(X, y), RNNRegressor(**options).fit(list(X), y)
    np.testing.assert_array_equal(array.predict(X), sequences.predict(X))
    short = [x[: 3 + i % 4] for i, x in enumerate(X)]
    padded_more = [*short, np.zeros((40, 2))]
    model = RNNRegressor(**options, cell="lstm").fit(short, y)
    np.testing.assert_allclose(model.predict(padded_more)[:-1], model.predict(short), rtol=1e-12)


def test_tables() -> None:
    X = np.random.default_rng(0).normal(size=(40, 6))
    y = X[:, -1] > 0
    options = {"units": 4, "epochs": 2, "random_state": 0}
    for width in (1, 3):
        table = RNNClassifier(step_features=width, **options).fit(X, y)
        array = RNNClassifier(**options).fit(X.reshape(40, -1, width), y)
        np.testing.assert_array_equal(table.predict_proba(X), array.predict_proba(X.reshape(40, -1, width)))
        assert table.n_features_in_ == 6 and array.n_features_in_ == width
        # a model of steps takes any number of them; a table keeps its columns
        assert array.predict(X[:, :3].reshape(40, -1, width)).shape == (40,)
        with pytest.raises(ValueError, match="X has 3 features, but RNNClassifier is expecting 6 features"):
            table.predict(X[:, :3])
    sequences = RNNClassifier(**options).fit([row[: 2 + i % 5] for i, row in enumerate(X)], y)
    assert sequences.predict(X).shape == (40,)  # of one length they look like a table


def test_data_frames_have_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["mon", "tue", "wed"])
    model = RNNRegressor(units=4, epochs=1).fit(frame, frame["mon"])
    assert list(model.feature_names_in_) == ["mon", "tue", "wed"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["tue", "mon", "wed"]])
    model.fit(np.zeros((20, 3, 1)), frame["mon"])
    assert not hasattr(model, "feature_names_in_")


def test_precision_follows_the_data() -> None:
    X, y = rising_or_falling(20)
    options = {"units": 4, "epochs": 1}

    def precision(model: Any) -> str:
        return str(model.model_.get_weights()[0].dtype)

    assert precision(RNNClassifier(**options).fit(X, y)) == "float32"
    assert precision(RNNClassifier(**options).fit(X.astype(np.float64), y)) == "float64"
    assert precision(RNNClassifier(dtype="float32", **options).fit(X.tolist(), y)) == "float32"
    model = RNNClassifier(**options).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X.astype(np.float64)))


BAD = [
    (np.zeros((4, 3, 2, 1)), "expected shape .B, T, I."),
    (np.zeros((4, 0, 2)), "expected shape .B, T, I."),
    ([np.zeros((3, 2)), np.zeros((2, 3)), *[np.zeros((1, 2))] * 2], r"X\[1\]: expected 2 features as in X\[0\], got 3"),
    ([np.zeros((3, 2)), np.zeros((0, 2)), *[np.zeros((1, 2))] * 2], r"X\[1\]: expected at least one step"),
    ([np.zeros((3, 2)), np.zeros(3), *[np.zeros((1, 2))] * 2], "expected sequences of one number of axes"),
    ([[[1, 2], [3]], [[1, 2]], [[1, 2]], [[1, 2]]], r"X\[0\]: expected steps of one length"),
    ([np.array([1.0, np.nan]), np.ones(3), np.ones(1), np.ones(1)], "contains NaN"),
    (np.full((4, 2, 1), np.inf), "contains infinity"),
    (np.full((4, 2, 1), np.finfo(np.float32).min), "which marks padding"),
    (np.array([[-1e300, 0.0, float(np.finfo(np.float32).min)]] * 4), "which marks padding"),
    ([np.array([float(np.finfo(np.float32).min), -1e300]), np.ones(3), np.ones(1), np.ones(1)], "which marks padding"),
    ([np.array([1j, 2]), np.ones(3), np.ones(1), np.ones(1)], "Complex data not supported"),
    (["a", "b", "c", "d"], "Expected 2D array, got 1D array|could not convert|dtype='numeric'"),
]


@pytest.mark.parametrize(("X", "words"), BAD, ids=range(len(BAD)))
def test_bad_data(X: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RNNRegressor(epochs=1).fit(X, np.arange(4.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": "gur"}, r"\[RNNClassifier\] cell: expected one of rnn, lstm, gru, got 'gur'"),
        ({"units": 0}, r"units: expected a positive integer"),
        ({"num_layers": 0}, r"\[RNNClassifier\] num_layers: expected"),
        ({"epochs": 0}, r"\[RNNClassifier\] epochs: expected a positive integer"),
        ({"batch_size": "all"}, "batch_size: expected a positive integer"),
        ({"dtype": "float16"}, r"\[RNNClassifier\] dtype: expected 'auto'"),
        ({"optimizer": "adm"}, "optimizer: expected"),
        ({"learning_rate": -1}, r"\[RNNClassifier\] learning_rate: expected a positive"),
        ({"dropout": 1.0}, "rate: expected"),
        ({"step_features": 2}, r"\[RNNClassifier\] X: expected a multiple of step_features=2 columns, got 3"),
        ({"step_features": 0}, r"\[RNNClassifier\] step_features: expected a positive integer"),
        ({"early_stopping": True, "validation_fraction": 0.0}, "validation_fraction: expected"),
    ],
)
def test_bad_parameters(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        RNNClassifier(**options).fit(np.zeros((6, 3)), [0, 1] * 3)


# ---- at home in scikit-learn --------------------------------------------------------------------------------------


def test_pipeline_and_grid_search_in_processes() -> None:
    X, y = rising_or_falling(120)
    table = 50 + 20 * X[:, :, 0].astype(np.float64)
    pipeline = make_pipeline(StandardScaler(), RNNClassifier(units=8, epochs=6, learning_rate=0.02, random_state=0))
    grid = {"rnnclassifier__cell": ["rnn", "gru"], "rnnclassifier__units": [4, 8]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(table, y)
    assert search.best_score_ > 0.85
    again = clone(pipeline).set_params(**search.best_params_).fit(table, y)
    np.testing.assert_array_equal(search.predict_proba(table), again.predict_proba(table))


def test_cross_validation_in_threads_is_that_of_one() -> None:
    """Everything random comes from the estimator's own generator, so threads do not disturb each other."""
    X, y = ragged(60)
    model = RNNRegressor(units=8, epochs=3, dropout=0.2, recurrent_dropout=0.2, random_state=3)
    one = cross_val_score(model, X, y, cv=4)
    with joblib.parallel_backend("threading"):
        two = cross_val_score(model, X, y, cv=4, n_jobs=4)
    np.testing.assert_array_equal(one, two)
    probabilities = cross_val_predict(RNNClassifier(units=4, epochs=1), X, y > 0, cv=3, method="predict_proba")
    assert probabilities.shape == (60, 2)


def test_random_state() -> None:
    X, y = rising_or_falling(60)
    options = {"units": 6, "epochs": 2, "dropout": 0.3, "batch_size": 16}
    first, second, other = (RNNClassifier(**options, random_state=s).fit(X, y).predict_proba(X) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    # and what others draw is left alone
    initializers.set_seed(1)
    expected = initializers.draw_seed()
    initializers.set_seed(1)
    RNNClassifier(**options).fit(X, y)
    assert initializers.draw_seed() == expected


def test_pickles(tmp_path: Path) -> None:
    X, y = ragged(30)
    model = RNNRegressor(units=8, epochs=2, random_state=0, optimizer=optimizers.RMSprop(0.01)).fit(X, y)
    data = pickle.dumps(model)
    np.testing.assert_array_equal(pickle.loads(data).predict(X), model.predict(X))
    weights = sum(w.nbytes for w in model.model_.get_weights())
    assert len(data) < weights + 16_000  # no gradients and no moments
    joblib.dump(model, tmp_path / "m.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "m.joblib", mmap_mode="r").predict(X), model.predict(X))
    model.model_.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert isinstance(loaded, Sequential)
    np.testing.assert_array_equal(loaded.predict(X[0][None])[:, 0], model.predict(X[:1]))


def test_threads_may_share_a_fitted_estimator() -> None:
    X, y = ragged(200)
    model = RNNRegressor(units=8, epochs=1, random_state=0).fit(X, y)
    parts = [X[i : i + 25] for i in range(0, 200, 25)] * 5
    expected = [model.predict(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for got, wanted in zip(pool.map(model.predict, parts), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_parameters_are_left_as_given() -> None:
    X, y = rising_or_falling(40)
    adam = optimizers.Adam(0.01)
    model = RNNClassifier(units=4, epochs=1, optimizer=adam).fit(X, y)
    assert model.optimizer is adam and adam.iterations == 0
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


# ---- texts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["basic", "bidirectional", "attention"])
def test_classifies_texts(name: str) -> None:
    texts, labels = reviews(600)
    model = TextClassifier(
        model=name, cell="gru", embedding_dim=16, units=16, epochs=15, learning_rate=0.01, dropout=0.0, random_state=0
    ).fit(texts[:500], labels[:500])
    assert model.score(texts[500:], labels[500:]) > 0.95
    assert model.predict(["Not awful!", "NOT  great, we saw"]).tolist() == ["pos", "neg"]
    assert model.vocabulary_["not"] == model.encoder_.encode(["not"])[0, -1]


def test_texts_in_search_pickle_and_pipeline(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    texts, labels = reviews(160)
    three = np.where([len(t) > 40 for t in texts], "long", labels)
    series = pandas.Series(texts, index=np.arange(160)[::-1])
    model = TextClassifier(embedding_dim=8, units=8, epochs=2, random_state=0, batch_size="auto")
    search = GridSearchCV(model, {"max_words": [8, 500]}, cv=2, n_jobs=2).fit(series, three)
    assert search.predict_proba(texts).shape == (160, 3)
    shout = make_pipeline(FunctionTransformer(lambda X: [t.upper() for t in X]), clone(model)).fit(texts, labels)
    plain = clone(model).fit(np.array(texts), labels)
    np.testing.assert_array_equal(shout.predict_proba(texts), plain.predict_proba(series))
    joblib.dump(plain, tmp_path / "t.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "t.joblib").predict_proba(texts), plain.predict_proba(texts))
    train, test, y_train, _ = train_test_split(texts, labels, random_state=0)
    assert clone(model).fit(train, y_train).predict(test).shape == (40,)


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        ("one text", TypeError, r"X: expected a list, array or Series of texts, got str"),
        (["a", 3], TypeError, r"X\[1\]: expected a str, got int 3"),
        (["a", None], TypeError, r"X\[1\]: expected a str, got NoneType"),
        (np.array([["a"], ["b"]]), ValueError, r"expected one axis of texts"),
        ([], ValueError, "expected at least one text"),
        (["...", "!"], ValueError, "expected texts with words"),
        (["a", "b", "c"], ValueError, "inconsistent numbers of samples"),
    ],
)
def test_bad_texts(X: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        TextClassifier(epochs=1).fit(X, ["yes", "no"])


def test_a_text_without_known_words() -> None:
    model = TextClassifier(embedding_dim=4, units=4, epochs=1).fit(["good film", "bad film"], [1, 0])
    assert np.isfinite(model.predict_proba(["", "zzz"])).all()
    with pytest.raises(NotFittedError):
        clone(model).predict(["good"])


def test_targets_far_from_zero_in_float32() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 8, 2)).astype(np.float32)
    f = X.astype(np.float64).mean(axis=(1, 2))
    scores = [
        RNNRegressor(epochs=15, random_state=0).fit(X, y).score(X, y) for y in (10 * f, 1.7e9 + 10 * f, 1e5 + 0.1 * f)
    ]
    np.testing.assert_allclose(scores[1:], scores[0], atol=1e-3)
    assert scores[0] > 0.9
    with pytest.raises(ValueError, match=r"\[RNNRegressor\] y: expected numbers that float32 can hold"):
        RNNRegressor(epochs=1).fit(X, f * 1e40)


@pytest.mark.parametrize("weight", [np.nan, -1.0, np.inf])
def test_class_weights_that_are_none(weight: float) -> None:
    X, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    with pytest.raises(ValueError, match=r"\[RNNClassifier\] class_weight: expected finite numbers >= 0"):
        RNNClassifier(epochs=1, class_weight={0: weight, 1: 1, 2: 1}).fit(X, y)


def test_a_fit_that_fails_leaves_the_classes_of_the_model_that_is_there() -> None:
    X = np.random.default_rng(0).normal(size=(30, 4))
    model = RNNClassifier(epochs=1, random_state=0).fit(X, np.arange(30) % 3)
    with pytest.raises(ValueError, match="epochs"):
        model.set_params(epochs=0).fit(X, np.arange(30) % 5)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(X).shape == (30, 3)
