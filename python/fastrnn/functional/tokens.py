"""Operations on embedded tokens that work once per distinct token of a batch instead of once per position."""

from __future__ import annotations

import numpy.typing as npt

from .. import _core
from ..activations import Spec
from .checks import Array, as_array, flags, integer
from .ops import conv_arguments, fused

TokenIndex = _core.TokenIndex


def token_index(ids: npt.ArrayLike, num_embeddings: int) -> TokenIndex:
    """The distinct tokens of ids (...), integers in 0..V-1 with V = num_embeddings, and where they stand.

    Returns an object with read-only arrays: `tokens` (D,) the ids in use, ascending; `inverse` (...) the rank of each
    position's id, ids = tokens[inverse]; `order` (N,) the flat positions sorted by id, those of one id ascending;
    `start` (D + 1,) where each token's positions begin in `order`. `len()` of it is D; `shape` is that of ids. A
    counting sort, O(N + V). An id out of range raises ValueError.
    """
    op = "token_index"
    size = integer(op, "num_embeddings", num_embeddings, 0)
    return _core.token_index(as_array(op, "ids", ids), size)


def _time(op: str, tokens: TokenIndex) -> int:
    if not isinstance(tokens, TokenIndex):
        raise TypeError(f"[{op}] tokens: expected what token_index returns, got {type(tokens).__name__}")
    if len(tokens.shape) != 2:
        raise ValueError(f"[{op}] tokens: expected ids of shape (B, T), got {tokens.shape}")
    return tokens.shape[1]


def token_conv1d(
    tokens: TokenIndex,
    embedding: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
    activation: Spec = None,
) -> Array:
    """`conv1d` of embedded tokens: tokens of ids (B, T), embedding (V, E), weight (F, E, K), bias (F,) or None ->
    (B, To, F), equal to conv1d(embedding(ids, embedding), weight, ...) up to rounding.

    A convolution is a sum over taps k of weight[:, :, k] . embedding[ids[t + k]]: each distinct token goes through all
    taps once, and an output is a sum of K rows of that table. This takes 2 D E K F operations and B To K F additions
    instead of 2 B To E K F operations, D = len(tokens). The other arguments are those of `conv1d`.
    """
    op = "token_conv1d"
    arguments = conv_arguments(op, _time(op, tokens), weight, stride, padding, dilation)
    return _core.token_conv1d(tokens, embedding, weight, bias, *arguments, fused(op, activation))


def token_conv1d_backward(
    tokens: TokenIndex,
    embedding: Array,
    weight: Array,
    y: Array,
    grad_y: Array,
    *,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
    activation: Spec = None,
    need_grad_embedding: bool = True,
    has_bias: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `token_conv1d` (embedding (V, E), weight, bias), from its output y (B, To, F) and grad_y.

    The gradients of the windows that a token stands in are summed before they meet the weights. Rows of the embedding
    that the ids do not have get zeros. Takes memory for B (T + (K - 1) dilation) F values.
    """
    op = "token_conv1d_backward"
    arguments = conv_arguments(op, _time(op, tokens), weight, stride, padding, dilation)
    flags(op, need_grad_embedding=need_grad_embedding, has_bias=has_bias)
    return _core.token_conv1d_backward(
        tokens, embedding, weight, y, grad_y, *arguments, fused(op, activation), need_grad_embedding, has_bias
    )
