#include "model/json.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

namespace fastrnn {
namespace {

constexpr int kDepth = 64;
constexpr size_t kValues = 1000000;

void append_utf8(std::string& to, uint32_t code) {
  const auto tail = [&](int shift) { to += char(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    to += char(code);
  } else if (code < 0x800) {
    to += char(0xc0 | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    to += char(0xe0 | (code >> 12));
    tail(6), tail(0);
  } else {
    to += char(0xf0 | (code >> 18));
    tail(12), tail(6), tail(0);
  }
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json document() {
    Json value = read(0);
    blanks();
    if (at_ != text_.size()) fail("one value");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* expected) const {
    throw JsonError("JSON with " + std::string(expected) + " at byte " + std::to_string(at_));
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void blanks() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }

  Json read(int depth) {
    if (depth > kDepth) fail("values nested less deeply");
    if (++values_ > kValues) fail("fewer values");
    blanks();
    Json value;
    switch (peek()) {
      case '{':
        value.kind_ = Json::Kind::object;
        object(value.members_, depth);
        break;
      case '[':
        value.kind_ = Json::Kind::array;
        array(value.items_, depth);
        break;
      case '"':
        value.kind_ = Json::Kind::string;
        value.text_ = string();
        break;
      default:
        word(value);
    }
    return value;
  }

  void object(Json::Members& members, int depth) {
    ++at_;
    blanks();
    if (take('}')) return;
    do {
      blanks();
      if (peek() != '"') fail("a key");
      std::string key = string();
      blanks();
      if (!take(':')) fail("a colon");
      members.emplace_back(std::move(key), read(depth + 1));
      blanks();
    } while (take(','));
    if (!take('}')) fail("the end of an object");
    const auto by_key = [](const auto& a, const auto& b) { return a.first < b.first; };
    std::sort(members.begin(), members.end(), by_key);
    for (size_t i = 1; i < members.size(); ++i)
      if (members[i - 1].first == members[i].first) fail("every key once");
  }

  void array(std::vector<Json>& items, int depth) {
    ++at_;
    blanks();
    if (take(']')) return;
    do {
      items.push_back(read(depth + 1));
      blanks();
    } while (take(','));
    if (!take(']')) fail("the end of an array");
  }

  uint32_t hexadecimal() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const bool low = c >= 'a' && c <= 'f', high = c >= 'A' && c <= 'F';
      if (!is_digit(c) && !low && !high) fail("four hexadecimal digits");
      code = code * 16 + uint32_t(is_digit(c) ? c - '0' : c - (low ? 'a' : 'A') + 10);
    }
    return code;
  }

  // Half of a surrogate pair that stands alone becomes U+FFFD.
  uint32_t escaped() {
    constexpr uint32_t kReplacement = 0xfffd;
    const uint32_t first = hexadecimal();
    if (first < 0xd800 || first > 0xdfff) return first;
    const size_t here = at_;
    if (first < 0xdc00 && take("\\u")) {
      const uint32_t second = hexadecimal();
      if (second >= 0xdc00 && second <= 0xdfff) return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
      at_ = here;
    }
    return kReplacement;
  }

  std::string string() {
    std::string to;
    ++at_;
    for (;;) {
      if (at_ >= text_.size()) fail("the end of a string");
      const char c = text_[at_++];
      if (c == '"') return to;
      if (static_cast<unsigned char>(c) < 0x20) fail("no control characters");
      if (c != '\\') {
        to += c;
        continue;
      }
      static constexpr std::string_view kEscapes = "\"\\/bfnrt", kMeaning = "\"\\/\b\f\n\r\t";
      const char kind = peek();
      ++at_;
      if (kind == 'u')
        append_utf8(to, escaped());
      else if (const size_t i = kEscapes.find(kind); i != std::string_view::npos && at_ <= text_.size())
        to += kMeaning[i];
      else
        fail("a known escape");
    }
  }

  void word(Json& value) {
    if (take("null")) return;
    value.kind_ = Json::Kind::boolean;
    if (take("true")) {
      value.number_ = 1;
      return;
    }
    if (take("false")) return;
    value.kind_ = Json::Kind::number;
    value.number_ = number();
  }

  double number() {
    const size_t start = at_;
    if (take("NaN")) return std::numeric_limits<double>::quiet_NaN();
    const bool negative = take('-');
    if (take("Infinity")) return negative ? -HUGE_VAL : HUGE_VAL;
    if (!is_digit(peek())) fail("a value");
    const bool zero = take('0');
    if (zero && is_digit(peek())) fail("no leading zeros");
    double whole = 0;
    for (; is_digit(peek()); ++at_) whole = whole * 10 + (peek() - '0');
    constexpr size_t kExact = 15;  // digits that a double holds
    bool plain = at_ - start - negative <= kExact;
    if (take('.')) {
      plain = false;
      if (!is_digit(peek())) fail("a digit");
      while (is_digit(peek())) ++at_;
    }
    if (peek() == 'e' || peek() == 'E') {
      plain = false;
      ++at_;
      if (!take('+')) take('-');
      if (!is_digit(peek())) fail("a digit");
      while (is_digit(peek())) ++at_;
    }
    if (plain) return negative ? -whole : whole;
    // not strtod, which reads a comma where the program's locale has one
    std::istringstream stream(std::string(text_.substr(start, at_ - start)));
    stream.imbue(std::locale::classic());
    double value = 0;
    stream >> value;
    return value;
  }

  std::string_view text_;
  size_t at_ = 0, values_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).document(); }

const Json* Json::find(std::string_view key) const {
  const auto before = [](const std::pair<std::string, Json>& member, std::string_view k) { return member.first < k; };
  const auto at = std::lower_bound(members_.begin(), members_.end(), key, before);
  return at != members_.end() && at->first == key ? &at->second : nullptr;
}

bool Json::integer(int64_t low, int64_t high, int64_t* value) const {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (kind_ != Kind::number || !(std::fabs(number_) <= kExact) || std::floor(number_) != number_) return false;
  if (number_ < double(low) || number_ > double(high)) return false;
  *value = int64_t(number_);
  return true;
}

}  // namespace fastrnn
