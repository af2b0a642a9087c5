"""Pure functions on arrays, forward and backward: the recurrent layers and the operations around them.

Everything runs in the C++ core, in the precision of x (float32 or float64); the arrays of a call share one dtype. An
array is NumPy's, or anything whose memory on the CPU NumPy can share, by DLPack (tensors of PyTorch, JAX, ...), the
buffer protocol or `__array_interface__`: nothing is copied, and what is written in place (`out`, weights in an update)
is written there. Results are NumPy arrays.
Letters in shapes: T time, B batch, I input, H hidden, G gates (RNN 1, GRU 3, LSTM 4), C channels, F filters or
features, K kernel, V vocabulary, E embedding. Weights have PyTorch's shapes and gate order (i f g o, r z n) and may be
strided views; sequences are batch-first unless `batch_first=False`.
Bad values raise ValueError and wrong types TypeError, `[op] argument: expected ..., got ...`, before anything is
computed. `reference` holds the same functions in plain NumPy.
"""

from ..gradients import LSTMGradients, RNNGradients
from .ops import (
    activation,
    activation_backward,
    conv1d,
    conv1d_backward,
    dropout,
    dropout_mask,
    embedding,
    embedding_backward,
    linear,
    linear_backward,
    softmax,
    softmax_backward,
)
from .optim import adam_update, rmsprop_update, sgd_update
from .pooling import (
    attention_pool,
    attention_pool_backward,
    avg_pool1d,
    avg_pool1d_backward,
    global_avg_pool1d,
    global_avg_pool1d_backward,
    global_max_pool1d,
    global_max_pool1d_backward,
    hold_last,
    hold_last_backward,
    max_pool1d,
    max_pool1d_backward,
)
from .recurrent import (
    PackedWeights,
    ProjectionTable,
    Workspace,
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    pack_weights,
    rnn,
    rnn_backward,
)
from .tokens import TokenIndex, token_conv1d, token_conv1d_backward, token_index

__all__ = [
    "LSTMGradients",
    "PackedWeights",
    "ProjectionTable",
    "RNNGradients",
    "TokenIndex",
    "Workspace",
    "activation",
    "activation_backward",
    "adam_update",
    "attention_pool",
    "attention_pool_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "conv1d",
    "conv1d_backward",
    "dropout",
    "dropout_mask",
    "embedding",
    "embedding_backward",
    "global_avg_pool1d",
    "global_avg_pool1d_backward",
    "global_max_pool1d",
    "global_max_pool1d_backward",
    "gru",
    "gru_backward",
    "hold_last",
    "hold_last_backward",
    "linear",
    "linear_backward",
    "lstm",
    "lstm_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "pack_weights",
    "rmsprop_update",
    "rnn",
    "rnn_backward",
    "sgd_update",
    "softmax",
    "softmax_backward",
    "token_conv1d",
    "token_conv1d_backward",
    "token_index",
]
