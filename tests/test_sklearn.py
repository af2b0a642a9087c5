"""fastrnn.sklearn: scikit-learn's own checks, and the things people do with estimators."""

from __future__ import annotations

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
        words[at:at] = (["not"] if turned else []) + [["awful", "boring"], ["lovely", "great"]][good][:: 1 if turned else -1][:1]
        texts.append(" ".join(words).capitalize() + ".")
        labels.append(["neg", "pos"][good ^ turned])
    return texts, np.array(labels)


# ---- scikit-learn's checks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("kind", [RNNClassifier, RNNRegressor])
def test_check_estimator(kind: Any, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check runs and passes, none skipped and none expected to fail; the array-API one asks for its variable."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(kind(cell=cell), on_fail=None)
    wrong = [(r["check_name"], r["status"], r["exception"]) for r in results if r["status"] != "passed"]
    names = {r["check_name"] for r in results}
    assert not wrong
    assert {"check_sample_weight_equivalence_on_dense_data", "check_estimators_pickle"} <= names
    assert len(results) >= 50


def test_check_estimator_of_texts() -> None:
    """scikit-learn has one check for estimators that take no 2-D numbers, and says of the others that it cannot run
    them: what they look at is tested below."""
    with pytest.warns(Warning, match="Can't test estimator"):
        results = check_estimator(TextClassifier())
    assert Counter(r["status"] for r in results) == {"passed": 1}
