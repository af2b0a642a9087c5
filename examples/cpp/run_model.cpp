// Runs a saved model on whole sequences: float32 features, or int32 word ids, from standard input; float32 outputs to
// standard output.
//
//   run_model MODEL.safetensors BATCH STEPS < x > y
#include <fastrnn/model.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <vector>

namespace {

template <class T>
std::vector<T> read_values(std::size_t count) {
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, stdin) != count) throw std::runtime_error("the input is too short");
  return values;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL.safetensors BATCH STEPS\n", argv[0]);
    return 2;
  }
  const fastrnn::Model model = fastrnn::Model::load(argv[1]);
  const long batch = std::atol(argv[2]), steps = std::atol(argv[3]);
  if (batch < 1) throw std::runtime_error("BATCH: expected 1 or more");
  std::vector<float> y(std::size_t(batch * model.output_rows(steps) * model.outputs()));
  if (model.takes_ids())
    model.run(batch, steps, read_values<std::int32_t>(std::size_t(batch * steps)).data(), y.data());
  else
    model.run(batch, steps, read_values<float>(std::size_t(batch * steps * model.inputs())).data(), y.data());
  return std::fwrite(y.data(), sizeof(float), y.size(), stdout) == y.size() ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
