// Text to ids: what fastrnn.datasets.text.TextEncoder does, for UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "fastrnn/types.hpp"
#include "model/json.hpp"

namespace fastrnn {

class TextEncoder {
 public:
  // From what TextEncoder.to_json wrote; ids are below `vocabulary`. Throws JsonError, saying what was expected.
  TextEncoder(const std::string& json, index vocabulary);
  index length() const { return length_; }
  // ids (length,): a start, then a word each, padded with 0 or cut in front.
  void encode(std::string_view text, int32_t* ids) const;

 private:
  std::unordered_map<std::string, int32_t> ids_;
  index length_ = 0;
};

}  // namespace fastrnn
