"""fastrnn.functional in plain NumPy: the readable specification, the oracle of the tests, the baseline of bench/.

Same names and signatures. Not fast, and it assumes valid input, which `fastrnn.functional` checks.
"""

from .ops import (
    attention_pool,
    attention_pool_backward,
    conv1d,
    conv1d_backward,
    dropout,
    dropout_mask,
    embedding,
    embedding_backward,
    hold_last,
    hold_last_backward,
    linear,
    linear_backward,
    softmax,
    softmax_backward,
)
from .optim import adam_update, rmsprop_update, sgd_update
from .pointwise import activation, activation_backward
from .pooling import (
    avg_pool1d,
    avg_pool1d_backward,
    global_avg_pool1d,
    global_avg_pool1d_backward,
    global_max_pool1d,
    global_max_pool1d_backward,
    max_pool1d,
    max_pool1d_backward,
)
from .recurrent import (
    LSTMGradients,
    RNNGradients,
    Workspace,
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    rnn,
    rnn_backward,
)
from .tokens import TokenIndex, token_conv1d, token_conv1d_backward, token_index

__all__ = [
    "LSTMGradients",
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
