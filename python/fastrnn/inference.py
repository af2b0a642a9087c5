"""FrozenModel: a model for prediction only, its recurrent weights packed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .layers import Bidirectional, Dropout, Embedding
from .layers.base import Layer
from .layers.recurrent import Recurrent

if TYPE_CHECKING:
    from .models import Sequential

_LARGEST_TABLE = 256 << 20  # bytes


class FrozenModel:
    """What `model.freeze()` returns: the model as it was then, for prediction only.

    The weights of recurrent layers are packed once rather than at each call, dropout layers are gone, and an
    embedding right before a recurrent layer is folded into it: the input products of the whole vocabulary are computed
    now, and prediction picks rows of them. Unless a reduced precision is asked for, the results are those of the
    model, bit for bit.
    """

    def __init__(self, model: Sequential, precision: str | None = None, *, fold_embedding: bool | None = None) -> None:
        if not model.built:
            raise ValueError("[freeze] model: expected a built model, got one without weights")
        if fold_embedding not in (None, True, False):
            raise TypeError(f"[freeze] fold_embedding: expected True, False or None, got {fold_embedding!r}")
        self.precision = precision
        self._model = type(model).from_config(model.get_config())
        self._model.set_weights(model.get_weights())
        kept = [layer for layer in self._model.layers if not isinstance(layer, Dropout)]
        self._model.layers = kept or self._model.layers
        self._frozen: list[Any] = []
        for before, layer in zip([None, *kept], kept, strict=False):
            for part in _recurrent_parts(layer):
                self._frozen.append(part.freeze(precision))
            if _folds(before, layer, fold_embedding):
                assert isinstance(before, Embedding)
                self._frozen += [part.fold(before.embeddings.value) for part in _recurrent_parts(layer)]

    def __call__(self, x: Any) -> Any:
        """The output for `x` (B, ...), an array or nested lists."""
        return self._model(x)

    def predict(self, x: Any, batch_size: int | None = None, verbose: Any = "auto") -> Any:
        """The outputs for x (N, ...) or an iterable of batches: (N, ...), or a list if the last layer gives several."""
        return self._model.predict(x, batch_size=batch_size, verbose=verbose)

    def reset_states(self) -> None:
        """Forget the states of stateful layers."""
        self._model.reset_states()

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights and of the folded embeddings."""
        return sum(part.nbytes for part in self._frozen)

    def __repr__(self) -> str:
        layers = [layer.name for layer in self._model.layers]
        return f"<FrozenModel name={self._model.name} precision={self.precision} layers={layers}>"


def _recurrent_parts(layer: Layer) -> tuple[Recurrent, ...]:
    if isinstance(layer, Bidirectional):
        return layer.forward_layer, layer.backward_layer
    return (layer,) if isinstance(layer, Recurrent) else ()


def _folds(before: Layer | None, layer: Layer, wanted: bool | None) -> bool:
    parts = _recurrent_parts(layer)
    if wanted is False or not parts or type(before) is not Embedding or before.activity_regularizer is not None:
        return False
    # a row of the table is at most a gate wider than the weights say
    table = sum(before.input_dim * (part.gate_count + 1) * part.units * 8 for part in parts)
    return bool(wanted) or table <= _LARGEST_TABLE
