/* fastrnn in C: recurrent layers step by step from raw weights, and saved models on whole sequences, text or streams.
 *
 *   fastrnn_recurrent layer;
 *   fastrnn_stream* stream;
 *   fastrnn_recurrent_init(&layer, FASTRNN_LSTM, 1, 16);
 *   layer.weight_ih = w; layer.weight_hh = r; layer.bias_ih = b;
 *   if (fastrnn_stream_create(&layer, &stream) != FASTRNN_OK) { puts(fastrnn_last_error()); ... }
 *   fastrnn_stream_process(stream, x, steps, y);
 *   fastrnn_stream_free(stream);
 *
 * Values are float, arrays C-contiguous, sizes int64_t. Functions that can fail return a fastrnn_status, and no C++
 * exception leaves them. Compiles as C99 and later and as C++. Part of the interface is what stands in this file:
 * opaque handles, functions, the enumerators' numbers, and fastrnn_recurrent, which grows at its end only (see
 * `struct_size`). fastrnn_abi_version() changes when a program must be compiled anew.
 */
#ifndef FASTRNN_FASTRNN_H
#define FASTRNN_FASTRNN_H

#include <stddef.h>
#include <stdint.h>

#include "fastrnn/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors, version, machine ---------------------------------------------------------------------------------- */

typedef enum fastrnn_status {
  FASTRNN_OK = 0,
  FASTRNN_INVALID_ARGUMENT = 1, /* a null pointer, a size, an id, weights that do not fit */
  FASTRNN_UNREADABLE = 2,       /* a file that cannot be opened or read */
  FASTRNN_DAMAGED = 3,          /* a damaged model file, or another kind of file */
  FASTRNN_UNSUPPORTED = 4,      /* a good model with something that C does not run: the message names it */
  FASTRNN_NO_MEMORY = 5,
  FASTRNN_INTERNAL = 6          /* anything else; never expected */
} fastrnn_status;

/* What went wrong in this thread's last call that failed: "[op] argument: expected ..., got ...". Valid until the next
 * one; never null. */
FASTRNN_API const char* fastrnn_last_error(void);
/* "invalid argument" and so on. */
FASTRNN_API const char* fastrnn_status_name(fastrnn_status status);

/* "0.1.0" */
FASTRNN_API const char* fastrnn_version(void);
/* That of this header, and of the library. */
#define FASTRNN_ABI_VERSION 1
FASTRNN_API int fastrnn_abi_version(void);

/* Instruction set in use: "avx512", "avx2", "baseline" or "neon". The best one, or FASTRNN_ISA in the environment; if
 * that is wrong, "" and an error. */
FASTRNN_API const char* fastrnn_isa(void);
/* Call it before models are loaded and streams are made: streams, and a model's recurrent and Dense layers, keep the
 * instruction set they were made with; other layers take the one in use when they run. */
FASTRNN_API fastrnn_status fastrnn_use_isa(const char* name);
/* Limit of threads per call of fastrnn_model_run and its like; streams never use any. */
FASTRNN_API fastrnn_status fastrnn_set_num_threads(int threads);

/* ---- a recurrent layer from raw weights ------------------------------------------------------------------------ */

typedef enum fastrnn_cell {
  FASTRNN_RNN = 0,             /* G = 1 */
  FASTRNN_LSTM = 1,            /* G = 4, gates i f g o */
  FASTRNN_GRU = 2,             /* G = 3, gates r z n, as PyTorch's */
  FASTRNN_GRU_RESET_BEFORE = 3 /* the reset gate multiplies h before the product */
} fastrnn_cell;

typedef enum fastrnn_activation_kind {
  FASTRNN_LINEAR = 0,
  FASTRNN_TANH = 1,
  FASTRNN_SIGMOID = 2,
  FASTRNN_RELU = 3,
  FASTRNN_HARD_SIGMOID = 4,      /* clip(alpha x + beta, 0, 1) */
  FASTRNN_ELU = 5,               /* alpha */
  FASTRNN_LEAKY_RELU = 6,        /* alpha */
  FASTRNN_SOFTSIGN = 7,
  FASTRNN_SOFTPLUS = 8,
  FASTRNN_SCALED_TANH = 9,       /* alpha tanh(beta x) */
  FASTRNN_AFFINE = 10,           /* alpha x + beta */
  FASTRNN_THRESHOLDED_RELU = 11, /* alpha */
  FASTRNN_SELU = 12,
  FASTRNN_GELU = 13,
  FASTRNN_SILU = 14,
  FASTRNN_EXPONENTIAL = 15
} fastrnn_activation_kind;

typedef struct fastrnn_activation {
  int32_t kind; /* fastrnn_activation_kind */
  float alpha, beta;
} fastrnn_activation;

/* With the parameters that the activation has by default. */
FASTRNN_API fastrnn_activation fastrnn_activation_of(fastrnn_activation_kind kind);

typedef struct fastrnn_recurrent {
  size_t struct_size; /* set by fastrnn_recurrent_init: that of the header the program was compiled with */
  int32_t cell;       /* fastrnn_cell */
  int64_t inputs, hidden;
  /* PyTorch's weight_ih_l0 (G*hidden, inputs), weight_hh_l0 (G*hidden, hidden), bias_ih_l0 and bias_hh_l0 (G*hidden),
   * in rows. Biases may be null: zeros. They are copied. */
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh;
  fastrnn_activation activation;           /* candidate: LSTM g, GRU n, RNN */
  fastrnn_activation recurrent_activation; /* gates: LSTM i f o, GRU r z */
  fastrnn_activation output_activation;    /* LSTM: of c */
} fastrnn_recurrent;

/* Sizes as given, no weights yet, tanh and sigmoid. Writes `struct_size` bytes and no more, so that a program whose
 * fastrnn_recurrent is shorter than the library's may use it. */
FASTRNN_API void fastrnn_recurrent_init_sized(fastrnn_recurrent* layer, size_t struct_size, fastrnn_cell cell,
                                              int64_t inputs, int64_t hidden);
/* A macro, for the size has to be the program's: void (fastrnn_recurrent*, fastrnn_cell, int64_t, int64_t). */
#define fastrnn_recurrent_init(layer, cell, inputs, hidden) \
  fastrnn_recurrent_init_sized(layer, sizeof(fastrnn_recurrent), cell, inputs, hidden)

/* ---- streams: a step or a block at a time ----------------------------------------------------------------------- */

/* All memory is taken when a stream is made: process, step and reset neither allocate nor lock nor start threads.
 * Denormals are flushed to zero inside a call, and the caller's floating-point mode is restored. A block gives
 * bitwise what its steps give one by one. One thread at a time per stream; different streams are independent. */
typedef struct fastrnn_stream fastrnn_stream;

/* On failure *stream is null. A `struct_size` above the library's is refused: the library is older than the header. */
FASTRNN_API fastrnn_status fastrnn_stream_create(const fastrnn_recurrent* layer, fastrnn_stream** stream);
/* Null is let pass. */
FASTRNN_API void fastrnn_stream_free(fastrnn_stream* stream);
/* Values of a step; -1 for null. */
FASTRNN_API int64_t fastrnn_stream_inputs(const fastrnn_stream* stream);
FASTRNN_API int64_t fastrnn_stream_outputs(const fastrnn_stream* stream);
/* x (steps, inputs) -> y (steps, outputs). The two must not overlap. Fails for null and for steps < 0 only. */
FASTRNN_API fastrnn_status fastrnn_stream_process(fastrnn_stream* stream, const float* x, int64_t steps, float* y);
FASTRNN_API fastrnn_status fastrnn_stream_step(fastrnn_stream* stream, const float* x, float* y);
/* All states to zeros. */
FASTRNN_API fastrnn_status fastrnn_stream_reset(fastrnn_stream* stream);

/* ---- saved models ----------------------------------------------------------------------------------------------- */

/* A file that `model.save("m.safetensors")` or `fastrnn train` wrote. Which layers are known stands in
 * fastrnn/model.hpp. A model does not change: any number of threads may use one at the same time. */
typedef struct fastrnn_model fastrnn_model;

/* On failure *model is null. */
FASTRNN_API fastrnn_status fastrnn_model_load(const char* path, fastrnn_model** model);
/* From the contents of a file, which are copied. */
FASTRNN_API fastrnn_status fastrnn_model_load_memory(const void* data, size_t size, fastrnn_model** model);
FASTRNN_API void fastrnn_model_free(fastrnn_model* model);

/* -1 for null. */
FASTRNN_API int fastrnn_model_takes_ids(const fastrnn_model* model);    /* 1: word ids; 0: features */
FASTRNN_API int64_t fastrnn_model_inputs(const fastrnn_model* model);   /* features of a step; 0 with ids */
FASTRNN_API int64_t fastrnn_model_outputs(const fastrnn_model* model);  /* values of an output row */
FASTRNN_API int64_t fastrnn_model_steps(const fastrnn_model* model);    /* the model was built for; 0: any number */
FASTRNN_API int64_t fastrnn_model_text_ids(const fastrnn_model* model); /* ids of a text; 0: no vocabulary */
/* Output rows for a sequence of so many steps: 1 where the model gives one row for all of it. */
FASTRNN_API fastrnn_status fastrnn_model_output_rows(const fastrnn_model* model, int64_t steps, int64_t* rows);

/* x (batch, steps, inputs) -> y (batch, rows, outputs) with the rows of fastrnn_model_output_rows. `y_size` is the number
 * of floats that y has room for. Recurrent layers start from zeros. */
FASTRNN_API fastrnn_status fastrnn_model_run(const fastrnn_model* model, const float* x, int64_t batch, int64_t steps,
                                             float* y, int64_t y_size);
/* The same for ids (batch, steps), 0 being padding. */
FASTRNN_API fastrnn_status fastrnn_model_run_ids(const fastrnn_model* model, const int32_t* ids, int64_t batch,
                                                 int64_t steps, float* y, int64_t y_size);
/* The same for one text, UTF-8, that ends with a zero byte. */
FASTRNN_API fastrnn_status fastrnn_model_run_text(const fastrnn_model* model, const char* text, float* y,
                                                  int64_t y_size);
/* ids (fastrnn_model_text_ids) of a text: padded with zeros or cut in front. Letters are lower-cased within ASCII and
 * Latin-1 only. */
FASTRNN_API fastrnn_status fastrnn_model_encode(const fastrnn_model* model, const char* text, int32_t* ids,
                                                int64_t ids_size);

/* The model step by step: recurrent layers of one direction, Dense and Activation. It keeps what it needs of the model,
 * which may be freed before it. On failure *stream is null. */
FASTRNN_API fastrnn_status fastrnn_model_stream(const fastrnn_model* model, fastrnn_stream** stream);

#ifdef __cplusplus
}
#endif

#endif
