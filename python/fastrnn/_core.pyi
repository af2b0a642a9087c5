from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Act = tuple[int, float, float]

class Workspace:
    @property
    def cell(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class ProjectionTable:
    @property
    def nbytes(self) -> int: ...

class PackedWeights:
    @property
    def nbytes(self) -> int: ...
    @property
    def precision(self) -> str: ...
    def project(self, embedding: _Array) -> ProjectionTable: ...

def pack_weights(
    cell: int,
    weight_ih: _Array,
    weight_hh: _Array,
    bias_ih: _Array | None,
    bias_hh: _Array | None,
    precision: str,
    /,
) -> PackedWeights: ...

class Stream:
    def __init__(
        self,
        cell: int,
        gate: _Act,
        candidate: _Act,
        output: _Act,
        weight_ih: _Array,
        weight_hh: _Array,
        bias_ih: _Array | None,
        bias_hh: _Array | None,
        /,
    ) -> None: ...
    def process(self, x: Any, out: Any = None) -> _Array: ...
    def reset(self) -> None: ...
    def get_state(self) -> tuple[_Array, ...]: ...
    def set_state(self, h: Any, c: Any, /) -> None: ...
    def copy(self) -> Stream: ...
    @property
    def inputs(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def is_double(self) -> bool: ...

def available_isas() -> list[str]: ...
def current_isa() -> str: ...
def use_isa(name: str) -> None: ...
def native_precisions() -> list[str]: ...
def skip_native(tables: int, /) -> None: ...
def num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def thread_source() -> str: ...
def force_split(split: int, /) -> None: ...
def assume_processors(processors: int, /) -> None: ...
def compiler() -> str: ...
def version() -> str: ...
def cached_memory() -> int: ...
def release_memory() -> None: ...
def measure_peak(threads: int) -> float: ...
def rnn_forward(
    cell: int,
    gate: _Act,
    candidate: _Act,
    output: _Act,
    x: _Array | TokenIndex | None,
    weight_ih: _Array | PackedWeights | ProjectionTable,
    weight_hh: _Array | None,
    bias_ih: _Array | None,
    bias_hh: _Array | None,
    h0: _Array | None,
    c0: _Array | None,
    lengths: _Array | None,
    mask: _Array | None,
    recurrent_mask: _Array | None,
    reverse: bool,
    batch_first: bool,
    return_sequences: bool,
    return_workspace: bool,
    out: _Array | None,
    checkpoint: int,
    embedding: _Array | None,
    /,
) -> tuple[Any, _Array, Any, Any]: ...
def rnn_backward(
    workspace: Workspace,
    grad_output: _Array | None,
    grad_h_n: _Array | None,
    grad_c_n: _Array | None,
    need_grad_x: bool,
    /,
) -> tuple[Any, ...]: ...
def as_array(op: str, argument: str, x: Any, /) -> _Array: ...
def linear(
    x: _Array, weight: _Array, bias: _Array | None, activation: _Act, out: _Array | None, /
) -> _Array: ...
def linear_backward(
    x: _Array, weight: _Array, y: _Array, grad_y: _Array, activation: _Act, need_grad_x: bool, has_bias: bool, /
) -> tuple[_Array | None, _Array, _Array | None]: ...
def conv1d(
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    stride: int,
    dilation: int,
    left: int,
    right: int,
    activation: _Act,
    out: _Array | None,
    /,
) -> _Array: ...
def conv1d_backward(
    x: _Array,
    weight: _Array,
    y: _Array,
    grad_y: _Array,
    stride: int,
    dilation: int,
    left: int,
    right: int,
    activation: _Act,
    need_grad_x: bool,
    has_bias: bool,
    /,
) -> tuple[_Array | None, _Array, _Array | None]: ...
def activation(x: _Array, activation: _Act, /) -> _Array: ...
def activation_backward(x: _Array, grad_y: _Array, activation: _Act, /) -> _Array: ...
def softmax(x: _Array, mask: _Array | None, /) -> _Array: ...
def softmax_backward(y: _Array, grad_y: _Array, /) -> _Array: ...
def embedding(ids: _Array | None, weight: _Array, out: _Array | None, /) -> _Array: ...
def embedding_backward(ids: _Array | None, grad_y: _Array, vocabulary: int, /) -> _Array: ...

class TokenIndex:
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def num_embeddings(self) -> int: ...
    @property
    def tokens(self) -> npt.NDArray[np.int64]: ...
    @property
    def inverse(self) -> npt.NDArray[np.int32]: ...
    @property
    def order(self) -> npt.NDArray[np.int32]: ...
    @property
    def start(self) -> npt.NDArray[np.int64]: ...
    def __len__(self) -> int: ...

def token_index(ids: _Array | None, vocabulary: int, /) -> TokenIndex: ...
def token_conv1d(
    tokens: TokenIndex,
    embedding: _Array,
    weight: _Array,
    bias: _Array | None,
    stride: int,
    dilation: int,
    left: int,
    right: int,
    activation: _Act,
    /,
) -> _Array: ...
def token_conv1d_backward(
    tokens: TokenIndex,
    embedding: _Array,
    weight: _Array,
    y: _Array,
    grad_y: _Array,
    stride: int,
    dilation: int,
    left: int,
    right: int,
    activation: _Act,
    need_grad_embedding: bool,
    has_bias: bool,
    /,
) -> tuple[_Array | None, _Array, _Array | None]: ...
def max_pool1d(
    x: _Array, size: int, stride: int, left: int, out_time: int, /
) -> tuple[_Array, npt.NDArray[np.int32]]: ...
def max_pool1d_backward(indices: _Array, grad_y: _Array, time: int, /) -> _Array: ...
def avg_pool1d(x: _Array, size: int, stride: int, left: int, out_time: int, /) -> _Array: ...
def avg_pool1d_backward(grad_y: _Array, time: int, size: int, stride: int, left: int, /) -> _Array: ...
def global_max_pool1d(x: _Array, mask: _Array | None, /) -> tuple[_Array, npt.NDArray[np.int32]]: ...
def global_avg_pool1d(x: _Array, mask: _Array | None, /) -> _Array: ...
def global_avg_pool1d_backward(grad_y: _Array, time: int, mask: _Array | None, /) -> _Array: ...
def attention_pool(x: _Array, scores: _Array, mask: _Array | None, /) -> tuple[_Array, _Array]: ...
def attention_pool_backward(x: _Array, weights: _Array, grad_y: _Array, /) -> tuple[_Array, _Array]: ...
def hold_last(y: _Array, mask: _Array, /) -> _Array: ...
def hold_last_backward(grad_y: _Array, mask: _Array, /) -> _Array: ...
def dropout(x: _Array, rate: float, seed: int, outer: int, repeat: int, inner: int, /) -> _Array: ...
def dropout_mask(size: int, rate: float, seed: int, is_double: bool, /) -> _Array: ...
def adam_update(
    param: _Array,
    grad: _Array,
    m: _Array,
    v: _Array,
    vhat: _Array | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    decay: float,
    /,
) -> None: ...
def rmsprop_update(
    param: _Array,
    grad: _Array,
    sq: _Array,
    mom: _Array | None,
    avg: _Array | None,
    lr: float,
    rho: float,
    momentum: float,
    eps: float,
    decay: float,
    /,
) -> None: ...
def sgd_update(
    param: _Array, grad: _Array, velocity: _Array | None, lr: float, momentum: float, nesterov: bool, decay: float, /
) -> None: ...
