// Damaged model files: fuzz_model ROUNDS SEED FILE ... loads and runs mutations of the files. Whatever they are, the
// answer is a status, within memory in proportion to the file.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "fastrnn/fastrnn.h"
#if defined(__linux__)
#include <sys/resource.h>
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FASTRNN_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FASTRNN_SANITIZED 1
#endif

namespace {

std::mt19937_64 generator;

size_t below(size_t n) { return n ? size_t(generator() % n) : 0; }

const char* const kNumbers[] = {"0", "-1", "1", "2", "3", "65536", "2147483647", "2147483648", "4294967296", "1e18",
                                "9223372036854775807", "18446744073709551616", "1e999", "-0", "0.5", "NaN"};
const char* const kWords[] = {"true", "false", "null", "[]", "{}", "\"\"", "\"valid\"", "\\\"same\\\"", "\\\"causal\\\"",
                              "\\\"softmax\\\"", "\\\"relu\\\"", "\\\"LSTM\\\"", "\\\"GRU\\\"", "\\\"Dense\\\"", "[[[["};

void replace(std::string& text, size_t at, size_t length, const std::string& with) { text.replace(at, length, with); }

// One change somewhere in the text of the header.
void mutate(std::string& header) {
  if (header.empty()) return;
  const size_t at = below(header.size());
  switch (below(7)) {
    case 0:
      header[at] = char(generator());
      return;
    case 1:
      header.erase(at, 1 + below(8));
      return;
    case 2:
      header.insert(at, header.substr(below(header.size()), below(64)));
      return;
    case 3:
    case 4: {  // a number
      const size_t digit = header.find_first_of("0123456789", at);
      if (digit == std::string::npos) return;
      size_t end = digit;
      while (end < header.size() && header[end] >= '0' && header[end] <= '9') ++end;
      return replace(header, digit, end - digit, kNumbers[below(std::size(kNumbers))]);
    }
    case 5: {  // the value behind a colon
      size_t colon = header.find(": ", at);
      if (colon == std::string::npos) return;
      colon += 2;
      size_t end = header.find_first_of(",}]", colon);
      if (end == std::string::npos) return;
      return replace(header, colon, end - colon, kWords[below(std::size(kWords))]);
    }
    default: {  // a word for another one
      static const std::pair<const char*, const char*> pairs[] = {
          {"true", "false"}, {"false", "true"}, {"null", "7"}, {"F32", "F64"}, {"valid", "causal"}, {"tanh", "gelu"}};
      const auto& [from, to] = pairs[below(std::size(pairs))];
      const size_t word = header.find(from, at);
      if (word != std::string::npos) replace(header, word, std::strlen(from), to);
    }
  }
}

std::string mutated(const std::string& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  std::string header = file.substr(8, size_t(length)), data = file.substr(8 + size_t(length));
  for (size_t n = 1 + below(3); n > 0; --n) mutate(header);
  if (below(8) == 0 && !data.empty()) data.resize(below(data.size() + 8));
  length = below(20) == 0 ? generator() >> below(64) : header.size();
  std::string result(8, '\0');
  std::memcpy(&result[0], &length, sizeof length);
  result += header + data;
  if (below(30) == 0) result.resize(below(result.size()));
  return result;
}

void use(const fastrnn_model* model) {
  constexpr int64_t kSteps = 24, kMost = 1 << 22;
  int64_t rows = 0;
  if (fastrnn_model_output_rows(model, kSteps, &rows) == FASTRNN_OK && rows * fastrnn_model_outputs(model) <= kMost &&
      fastrnn_model_inputs(model) <= kMost) {
    const int64_t size = 2 * rows * fastrnn_model_outputs(model);
    std::vector<float> y(size_t(size) + 1);
    if (fastrnn_model_takes_ids(model)) {
      std::vector<int32_t> ids(2 * kSteps);
      for (size_t i = 4; i < ids.size(); ++i) ids[i] = int32_t(i % 5);
      fastrnn_model_run_ids(model, ids.data(), 2, kSteps, y.data(), size);
    } else {
      const std::vector<float> x(size_t(2 * kSteps * fastrnn_model_inputs(model)), 0.1f);
      fastrnn_model_run(model, x.data(), 2, kSteps, y.data(), size);
    }
  }
  if (fastrnn_model_text_ids(model) > 0 && fastrnn_model_text_ids(model) <= 64) {
    std::vector<float> y(1 << 16);
    fastrnn_model_run_text(model, "a film that \xc3\x80 \xff was<br />good", y.data(), int64_t(y.size()));
  }
  fastrnn_stream* stream = nullptr;
  if (fastrnn_model_stream(model, &stream) == FASTRNN_OK) {
    const std::vector<float> x(size_t(3 * fastrnn_stream_inputs(stream)), 0.1f);
    std::vector<float> y(size_t(3 * fastrnn_stream_outputs(stream)));
    fastrnn_stream_process(stream, x.data(), 3, y.data());
  }
  fastrnn_stream_free(stream);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
#if defined(__linux__) && !defined(FASTRNN_SANITIZED)
  const rlimit limit{rlim_t(2) << 30, rlim_t(2) << 30};
  setrlimit(RLIMIT_AS, &limit);
#endif
  generator.seed(std::strtoull(argv[2], nullptr, 10));
  std::vector<std::string> files;
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    files.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (files.back().size() < 8) return 2;
  }
  long counts[FASTRNN_INTERNAL + 1] = {};
  for (long round = std::atol(argv[1]); round > 0; --round) {
    const std::string bytes = mutated(files[below(files.size())]);
    fastrnn_model* model = nullptr;
    const fastrnn_status status = fastrnn_model_load_memory(bytes.data(), bytes.size(), &model);
    ++counts[status];
    if ((status == FASTRNN_OK) != (model != nullptr)) return 1;
    if (status == FASTRNN_NO_MEMORY || status == FASTRNN_INTERNAL) std::printf("%s\n", fastrnn_last_error());
    if (model) use(model);
    fastrnn_model_free(model);
  }
  for (int status = 0; status <= FASTRNN_INTERNAL; ++status)
    std::printf("%ld %s\n", counts[status], fastrnn_status_name(fastrnn_status(status)));
  return counts[FASTRNN_NO_MEMORY] + counts[FASTRNN_INTERNAL] + counts[FASTRNN_INVALID_ARGUMENT] > 0;
}
