/* Judges reviews with a model that `fastrnn train` saved, without Python.
 *
 *   classify_review MODEL.safetensors "Not a bad film" ...     one line each: probability, then the verdict
 *   classify_review MODEL.safetensors --ids 1 14 22 ...        word ids, for a model saved without its vocabulary
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fastrnn/fastrnn.h>

static int fail(void) {
  fprintf(stderr, "%s\n", fastrnn_last_error());
  return 1;
}

static void report(float probability, const char* text) {
  printf("%.7f %s  %s\n", probability, probability >= 0.5f ? "positive" : "negative", text);
}

static int judge_ids(const fastrnn_model* model, int count, char** words) {
  float probability = 0;
  int i;
  fastrnn_status status;
  int32_t* ids = malloc((size_t)(count + 1) * sizeof *ids);
  if (!ids) return 1;
  for (i = 0; i < count; ++i) ids[i] = (int32_t)atol(words[i]);
  status = fastrnn_model_run_ids(model, ids, 1, count, &probability, 1);
  free(ids);
  if (status != FASTRNN_OK) return fail();
  report(probability, "(ids)");
  return 0;
}

int main(int argc, char** argv) {
  fastrnn_model* model = NULL;
  int i, code = 0;
  if (argc < 3) {
    fprintf(stderr, "usage: %s MODEL.safetensors TEXT ... | MODEL.safetensors --ids ID ...\n", argv[0]);
    return 2;
  }
  if (fastrnn_model_load(argv[1], &model) != FASTRNN_OK) return fail();
  if (fastrnn_model_outputs(model) != 1) {
    fprintf(stderr, "expected a model with one output, got %ld\n", (long)fastrnn_model_outputs(model));
    code = 1;
  } else if (strcmp(argv[2], "--ids") == 0) {
    code = judge_ids(model, argc - 3, argv + 3);
  } else {
    for (i = 2; i < argc && code == 0; ++i) {
      float probability = 0;
      if (fastrnn_model_run_text(model, argv[i], &probability, 1) != FASTRNN_OK)
        code = fail();
      else
        report(probability, argv[i]);
    }
  }
  fastrnn_model_free(model);
  return code;
}
