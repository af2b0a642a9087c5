#include "model/text.hpp"

#include <algorithm>
#include <vector>

namespace fastrnn {
namespace {

constexpr int32_t kStart = 1, kUnknown = 2, kIndexFrom = 3;
constexpr int64_t kLongest = 1 << 20;

bool is_filtered(char c) {
  static constexpr std::string_view kFilters = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n";
  return kFilters.find(c) != std::string_view::npos;
}

// The white space of Python's bytes.split, after filtering.
bool is_blank(char c) { return c == ' ' || c == '\r' || c == '\v' || c == '\f' || is_filtered(c); }

// ASCII, and the capitals of Latin-1 (U+00C0 to U+00DE but for the multiplication sign), two bytes in UTF-8.
void lower(std::string& word) {
  for (size_t i = 0; i < word.size(); ++i) {
    const auto byte = static_cast<unsigned char>(word[i]);
    if (byte >= 'A' && byte <= 'Z') {
      word[i] = char(byte + 32);
    } else if (byte == 0xc3 && i + 1 < word.size()) {
      const auto next = static_cast<unsigned char>(word[++i]);
      if (next >= 0x80 && next <= 0x9e && next != 0x97) word[i] = char(next + 32);
    }
  }
}

}  // namespace

TextEncoder::TextEncoder(const std::string& json, index vocabulary) {
  const Json state = Json::parse(json);
  const Json *words = state.find("words"), *count = state.find("num_words"), *length = state.find("maxlen");
  int64_t most = 0, steps = 0;
  if (!words || !words->is(Json::Kind::array)) throw JsonError("a list of words");
  if (!count || !count->integer(kIndexFrom + 2, int64_t(1) << 31, &most)) throw JsonError("num_words above 4");
  if (!length || !length->integer(1, kLongest, &steps)) throw JsonError("maxlen from 1 to 2^20");
  length_ = steps;
  const size_t taken = std::min(words->items().size(), size_t(most - kIndexFrom - 1));
  if (index(taken) + kIndexFrom + 1 > vocabulary) throw JsonError("as many words as the embedding has rows");
  for (size_t i = 0; i < taken; ++i) {
    const Json& word = words->items()[i];
    if (!word.is(Json::Kind::string)) throw JsonError("words that are strings");
    if (!ids_.emplace(word.string(), int32_t(i) + 1 + kIndexFrom).second) throw JsonError("every word once");
  }
}

void TextEncoder::encode(std::string_view text, int32_t* ids) const {
  static constexpr std::string_view kBreak = "<br />";
  std::vector<int32_t> found{kStart};
  std::string word;
  const auto finish = [&] {
    if (word.empty()) return;
    lower(word);
    const auto at = ids_.find(word);
    found.push_back(at == ids_.end() ? kUnknown : at->second);
    word.clear();
  };
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i, kBreak.size()) == kBreak) {
      finish();
      i += kBreak.size();
    } else if (is_blank(text[i])) {
      finish();
      ++i;
    } else {
      word += text[i++];
    }
  }
  finish();
  const size_t length = size_t(length_), kept = std::min(found.size(), length);
  std::fill_n(ids, length - kept, 0);
  std::copy(found.end() - std::ptrdiff_t(kept), found.end(), ids + (length - kept));
}

}  // namespace fastrnn
