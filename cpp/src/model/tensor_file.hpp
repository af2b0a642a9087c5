// safetensors: eight bytes of header length, a JSON header, the tensors' bytes. Checked as a whole before use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fastrnn/model.hpp"
#include "model/json.hpp"

namespace fastrnn {

// What a message shows of a text from a file: printable, and not long.
std::string shown(const std::string& text);

struct Tensor {
  bool is_float;  // else another dtype, which nothing here reads
  std::string dtype;
  std::vector<index> shape;
  const unsigned char* bytes;
  size_t size;
};

class TensorFile {
 public:
  // The tensors point into `data`. Throws ModelError.
  TensorFile(const std::string& name, const unsigned char* data, size_t size);

  // A text of the file's metadata, or null.
  const std::string* metadata(const std::string& key) const;
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

  // "expected a fastrnn model file, got ..."
  [[noreturn]] void refuse(const std::string& got) const;

 private:
  Tensor read_entry(const std::string& key, const Json& entry, const unsigned char* data, size_t size) const;
  void check_coverage(const unsigned char* data, size_t size) const;

  std::string name_;
  Json header_;
  std::map<std::string, Tensor> tensors_;
};

// All bytes of a file. Throws ModelError.
std::vector<unsigned char> read_file(const std::string& path);

}  // namespace fastrnn
