// A strict JSON reader for the headers of model files: depth and number of values bounded, strings decoded to UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fastrnn {

struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Json {
 public:
  enum class Kind : unsigned char { null, boolean, number, string, array, object };
  typedef std::vector<std::pair<std::string, Json>> Members;

  // The one value that `text` holds. Throws JsonError for anything but JSON (NaN and Infinity are let in, as Python
  // writes them), for a key that stands twice, nesting deeper than 64, or more than a million values.
  static Json parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool boolean() const { return number_ != 0; }  // of a boolean
  double number() const { return number_; }      // of a number
  const std::string& string() const { return text_; }
  const std::vector<Json>& items() const { return items_; }
  const Members& members() const { return members_; }  // sorted by key
  const Json* find(std::string_view key) const;        // of an object; null: no such key, or no object
  // Whether this is a number that is an integer in [low, high].
  bool integer(int64_t low, int64_t high, int64_t* value) const;

 private:
  friend class JsonReader;
  Kind kind_ = Kind::null;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  Members members_;
};

}  // namespace fastrnn
