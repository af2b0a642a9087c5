#include "model/tensor_file.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <string_view>

namespace fastrnn {
namespace {

constexpr size_t kMostHeader = size_t(64) << 20;
constexpr int kMostAxes = 8;

int64_t dtype_size(const std::string& name) {
  static constexpr struct {
    std::string_view name;
    int64_t size;
  } known[] = {{"F32", 4}, {"F64", 8}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
               {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};
  for (const auto& dtype : known)
    if (name == dtype.name) return dtype.size;
  return 0;
}

bool little_endian() {
  const uint16_t one = 1;
  unsigned char first;
  std::memcpy(&first, &one, 1);
  return first == 1;
}

}  // namespace

std::string shown(const std::string& text) {
  constexpr size_t kLongest = 60;
  std::string to;
  for (char c : text.substr(0, kLongest)) to += c < 0x20 || c > 0x7e ? '?' : c;
  return text.size() > kLongest ? to + "..." : to;
}

void TensorFile::refuse(const std::string& got) const {
  throw ModelError(ModelError::Kind::damaged,
                   "[load_model] " + name_ + ": expected a fastrnn model file, got " + got);
}

TensorFile::TensorFile(const std::string& name, const unsigned char* data, size_t size) : name_(name) {
  if (!little_endian())
    throw ModelError(ModelError::Kind::unsupported, "[load_model] " + name + ": expected a little-endian machine");
  uint64_t length = 0;
  if (size < sizeof length) refuse(std::to_string(size) + " bytes");
  std::memcpy(&length, data, sizeof length);
  data += sizeof length;
  size -= sizeof length;
  if (length > size || length > kMostHeader) refuse("something else or a damaged file (length of the header)");
  try {
    header_ = Json::parse({reinterpret_cast<const char*>(data), size_t(length)});
  } catch (const JsonError& error) {
    refuse(std::string("something else or a damaged file (header: expected ") + error.what() + ")");
  }
  if (!header_.is(Json::Kind::object)) refuse("something else or a damaged file (header: expected a JSON object)");
  data += length;
  size -= size_t(length);
  for (const auto& [key, entry] : header_.members())
    if (key != "__metadata__") tensors_.emplace(key, read_entry(key, entry, data, size));
  check_coverage(data, size);
}

Tensor TensorFile::read_entry(const std::string& key, const Json& entry, const unsigned char* data, size_t size) const {
  const std::string what = "a damaged file (tensor '" + shown(key) + "': ";
  const Json *dtype = entry.find("dtype"), *shape = entry.find("shape"), *offsets = entry.find("data_offsets");
  if (!dtype || !dtype->is(Json::Kind::string) || !shape || !shape->is(Json::Kind::array) || !offsets ||
      !offsets->is(Json::Kind::array) || offsets->items().size() != 2)
    refuse(what + "no dtype, shape and data_offsets)");
  Tensor tensor{dtype->string() == "F32", dtype->string(), {}, nullptr, 0};
  int64_t bytes = dtype_size(dtype->string()), begin = 0, end = 0;
  if (bytes == 0) refuse(what + "dtype " + shown(dtype->string()) + ")");
  if (shape->items().size() > size_t(kMostAxes)) refuse(what + "too many axes)");
  for (const Json& item : shape->items()) {
    int64_t extent = 0;
    if (!item.integer(0, std::numeric_limits<int64_t>::max(), &extent)) refuse(what + "shape)");
    if (extent != 0 && bytes > std::numeric_limits<int64_t>::max() / extent) refuse(what + "shape)");
    bytes *= extent;
    tensor.shape.push_back(extent);
  }
  const auto most = int64_t(std::min<uint64_t>(size, uint64_t(std::numeric_limits<int64_t>::max())));
  if (!offsets->items()[0].integer(0, most, &begin) || !offsets->items()[1].integer(begin, most, &end))
    refuse(what + "offsets outside the file)");
  if (end - begin != bytes) refuse(what + "offsets that do not fit its shape)");
  tensor.bytes = data + begin;
  tensor.size = size_t(bytes);
  return tensor;
}

// The tensors follow one another without gaps or overlaps, up to the end.
void TensorFile::check_coverage(const unsigned char* data, size_t size) const {
  std::vector<std::pair<const unsigned char*, size_t>> pieces;
  for (const auto& entry : tensors_) pieces.emplace_back(entry.second.bytes, entry.second.size);
  std::sort(pieces.begin(), pieces.end());
  const unsigned char* at = data;
  for (const auto& [bytes, length] : pieces) {
    if (bytes != at) refuse("a damaged file (tensors that overlap or leave gaps)");
    at += length;
  }
  if (at != data + size) refuse("a damaged file (bytes behind the tensors)");
}

const std::string* TensorFile::metadata(const std::string& key) const {
  const Json* metadata = header_.find("__metadata__");
  const Json* value = metadata ? metadata->find(key) : nullptr;
  return value && value->is(Json::Kind::string) ? &value->string() : nullptr;
}

std::vector<unsigned char> read_file(const std::string& path) {
  const auto fail = [&](const char* got) {
    throw ModelError(ModelError::Kind::unreadable, "[load_model] " + path + ": expected a fastrnn model file, got " + got);
  };
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("a file that cannot be opened");
  file.seekg(0, std::ios::end);
  const std::streamoff size = file.tellg();
  file.seekg(0);
  if (!file || size < 0) fail("a file that cannot be read");
  // in pieces: a folder, say, claims a size that nobody could allocate
  constexpr std::streamoff kPiece = 16 << 20;
  std::vector<unsigned char> bytes;
  for (std::streamoff left = size; left > 0;) {
    const std::streamoff piece = std::min(left, kPiece);
    const size_t at = bytes.size();
    bytes.resize(at + size_t(piece));
    if (!file.read(reinterpret_cast<char*>(bytes.data() + at), std::streamsize(piece))) fail("a file that cannot be read");
    left -= piece;
  }
  return bytes;
}

}  // namespace fastrnn
