"""Operations on embedded tokens, once per distinct token, in NumPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..activations import Spec
from .ops import Padding, _check_ids, conv_extent
from .pointwise import d_f_of_y, f, fused

Array = npt.NDArray[Any]


class TokenIndex(NamedTuple):
    """What `token_index` finds."""

    num_embeddings: int
    tokens: Array  # (D,) ascending
    inverse: Array  # (...) ids = tokens[inverse]
    order: Array  # (N,) flat positions by id
    start: Array  # (D + 1,) into order

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inverse.shape


def token_index(ids: Array, num_embeddings: int) -> TokenIndex:
    """ids (...) int in [0, num_embeddings) -> its distinct values and where they stand."""
    _check_ids("token_index", ids, num_embeddings)
    tokens, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    inverse = inverse.reshape(ids.shape).astype(np.int32)
    order = np.argsort(ids, axis=None, kind="stable").astype(np.int32)
    return TokenIndex(num_embeddings, tokens.astype(np.int64), inverse, order, start)


def token_conv1d(
    tokens: TokenIndex, embedding: Array, weight: Array, bias: Array | None = None, *, stride: int = 1,
    padding: Padding = "valid", dilation: int = 1, activation: Spec = None,
) -> Array:  # fmt: skip
    """ids (B, T), embedding (V, E), weight (F, E, K), bias (F,) -> y (B, To, F): sums of the rows of a table."""
    B, T = tokens.shape
    K = weight.shape[2]
    To, left, right = conv_extent(T, (K - 1) * dilation + 1, stride, padding)
    table = np.einsum("de,fek->dkf", embedding[tokens.tokens], weight)
    table = np.concatenate([table, np.zeros((1, *table.shape[1:]), table.dtype)])  # what lies outside: zeros
    rank = np.pad(tokens.inverse, ((0, 0), (left, right)), constant_values=len(tokens.tokens))
    a = np.zeros((B, To, weight.shape[0]), embedding.dtype)
    for k in range(K):
        a += table[rank[:, k * dilation :: stride][:, :To], k]
    return f(a if bias is None else a + bias, fused("token_conv1d", activation))


def token_conv1d_backward(
    tokens: TokenIndex, embedding: Array, weight: Array, y: Array, grad_y: Array, *, stride: int = 1,
    padding: Padding = "valid", dilation: int = 1, activation: Spec = None, need_grad_embedding: bool = True,
    has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:  # fmt: skip
    """y (B, To, F) the activated result -> grad_embedding (V, E) | None, grad_weight (F, E, K), grad_bias | None."""
    F, _, K = weight.shape
    To, left, right = conv_extent(tokens.shape[1], (K - 1) * dilation + 1, stride, padding)
    da = grad_y * d_f_of_y(y, fused("token_conv1d_backward", activation))
    rank = np.pad(tokens.inverse, ((0, 0), (left, right)), constant_values=len(tokens.tokens))
    grad_table = np.zeros((len(tokens.tokens) + 1, K, F), embedding.dtype)
    for k in range(K):
        np.add.at(grad_table[:, k], rank[:, k * dilation :: stride][:, :To], da)
    grad_table = grad_table[:-1]
    grad_weight = np.einsum("dkf,de->fek", grad_table, embedding[tokens.tokens])
    grad_embedding = None
    if need_grad_embedding:
        grad_embedding = np.zeros(embedding.shape, embedding.dtype)
        grad_embedding[tokens.tokens] = np.einsum("dkf,fek->de", grad_table, weight)
    return grad_embedding, grad_weight, da.sum(axis=(0, 1)) if has_bias else None
