/* A recurrent network as a filter of a stream of samples: float32 from standard input, filtered to standard output.
 *
 *   streaming_filter                        an LSTM 1 -> 16 with made-up weights, one value out of sixteen
 *   streaming_filter MODEL.safetensors      a saved model of recurrent layers, Dense and Activation
 *   streaming_filter --time                 no input: microseconds per step, one call a step
 *
 * Input and output are frames of as many values as the network takes and gives. Nothing is allocated in the loop.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <fastrnn/fastrnn.h>

#define BLOCK 64
#define INPUTS 1
#define HIDDEN 16

static void fill(float* values, int count, double scale, double phase) {
  int i;
  for (i = 0; i < count; ++i) values[i] = (float)(scale * sin(1.7 * i + phase));
}

/* Weights in PyTorch's layout; a real program would have trained ones. */
static fastrnn_status make_lstm(fastrnn_stream** stream) {
  static float w[4 * HIDDEN * INPUTS], r[4 * HIDDEN * HIDDEN], b[4 * HIDDEN];
  fastrnn_recurrent layer;
  fill(w, 4 * HIDDEN * INPUTS, 0.5, 0.3);
  fill(r, 4 * HIDDEN * HIDDEN, 0.3, 1.1);
  fill(b, 4 * HIDDEN, 0.1, 2.0);
  fastrnn_recurrent_init(&layer, FASTRNN_LSTM, INPUTS, HIDDEN);
  layer.weight_ih = w;
  layer.weight_hh = r;
  layer.bias_ih = b;
  return fastrnn_stream_create(&layer, stream);
}

static double time_steps(fastrnn_stream* stream) {
  enum { STEPS = 20000, ROUNDS = 25 };
  float* x = calloc((size_t)fastrnn_stream_inputs(stream), sizeof *x);
  float* y = calloc((size_t)fastrnn_stream_outputs(stream), sizeof *y);
  double best = 1e30;
  int round, i;
  for (round = 0; x && y && round < ROUNDS; ++round) {
    const clock_t start = clock();
    double microseconds;
    for (i = 0; i < STEPS; ++i) {
      x[0] = (float)(i % 17) * 0.1f;
      fastrnn_stream_step(stream, x, y);
    }
    microseconds = 1e6 * (double)(clock() - start) / CLOCKS_PER_SEC / STEPS;
    if (microseconds < best) best = microseconds;
  }
  free(x);
  free(y);
  return best;
}

static int filter(fastrnn_stream* stream) {
  const size_t inputs = (size_t)fastrnn_stream_inputs(stream), outputs = (size_t)fastrnn_stream_outputs(stream);
  float* x = malloc(BLOCK * inputs * sizeof *x);
  float* y = malloc(BLOCK * outputs * sizeof *y);
  size_t frames;
  int code = x && y ? 0 : 1;
  while (code == 0 && (frames = fread(x, inputs * sizeof *x, BLOCK, stdin)) > 0) {
    fastrnn_stream_process(stream, x, (int64_t)frames, y);
    if (fwrite(y, outputs * sizeof *y, frames, stdout) != frames) code = 1;
  }
  free(x);
  free(y);
  return code;
}

int main(int argc, char** argv) {
  const int timed = argc > 1 && strcmp(argv[1], "--time") == 0;
  fastrnn_stream* stream = NULL;
  fastrnn_status status;
  int code;
  if (argc > 1 && !timed) {
    fastrnn_model* model = NULL;
    status = fastrnn_model_load(argv[1], &model);
    if (status == FASTRNN_OK) status = fastrnn_model_stream(model, &stream);
    fastrnn_model_free(model);
  } else {
    status = make_lstm(&stream);
  }
  if (status != FASTRNN_OK) {
    fprintf(stderr, "%s: %s\n", fastrnn_status_name(status), fastrnn_last_error());
    return 1;
  }
  if (timed)
    printf("%.3f microseconds per step, LSTM %d -> %d, %s\n", time_steps(stream), INPUTS, HIDDEN, fastrnn_isa());
  code = timed ? 0 : filter(stream);
  fastrnn_stream_free(stream);
  return code;
}
