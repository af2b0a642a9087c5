// Views of contiguous arrays: view(weights, 4 * H, I).
#pragma once

#include "fastrnn/types.hpp"

namespace fastrnn {

// `data` as a C-contiguous array of these extents, at most four. Nothing is copied: the array must outlive the call
// that the view is passed to.
template <class T, class... Extents>
View<const T> view(const T* data, Extents... extents) {
  static_assert(sizeof...(Extents) >= 1 && sizeof...(Extents) <= 4, "one to four extents");
  const index shape[] = {static_cast<index>(extents)...};
  View<const T> v;
  v.data = data;
  v.ndim = int(sizeof...(Extents));
  index stride = 1;
  for (int i = v.ndim - 1; i >= 0; --i) {
    v.shape[i] = shape[i];
    v.stride[i] = stride;
    stride *= shape[i];
  }
  return v;
}

// The same of an array that is written to.
template <class T, class... Extents>
View<T> writable_view(T* data, Extents... extents) {
  const View<const T> from = view(static_cast<const T*>(data), extents...);
  View<T> v;
  v.data = data;
  v.ndim = from.ndim;
  for (int i = 0; i < v.ndim; ++i) {
    v.shape[i] = from.shape[i];
    v.stride[i] = from.stride[i];
  }
  return v;
}

}  // namespace fastrnn
