// The Python object of a TokenIndex.
#pragma once

#include <vector>

#include "token_index.hpp"

namespace fastrnn::bindings {

// An index and the shape of the ids it was made from.
struct PyTokens {
  TokenIndex core;
  std::vector<index> shape;
};

}  // namespace fastrnn::bindings
