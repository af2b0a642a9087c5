// The seam to products of matrices of float that instructions for whole tiles compute (AMX). Plain data, as in
// kernel_table.hpp.
#pragma once

#include <stddef.h>

#include "fastrnn/types.hpp"

namespace fastrnn {

// C = start + A.B, or C += A.B. A has `rows` rows and K columns; columns of B and C come as vectors of 16.
//
// A row of A is a run of contiguous values, or several; or, with `vector_of_rows`, A stands transposed: its column k is
// found where row k would be, and 16 rows of it, or the fewer that are left, at each of these offsets.
struct MatrixProduct {
  index rows, K, columns;  // columns: vectors
  const float* a;
  const index* a_offset;  // row r: a + a_offset[r] if given, else a + r*a_stride
  index a_stride;
  const index* segment;  // runs (offset, length) of a row, in the order of K; null: one run of K values
  const index* segment_length;
  index segments;
  const index* vector_of_rows;
  const float* b;
  const index* b_offset;  // row k: b + b_offset[k] if given, else b + k*b_stride
  index b_stride;
  const index* b_column;  // offsets in a row of B, one per vector
  const char* b_tiles;    // null, or B as `split` has left it
  float* c;
  index c_stride;         // from row to row
  const index* c_block;   // null, or where each 16 rows begin, in place of 16*c_stride
  const index* c_column;  // offsets in a row of C, one per vector
  bool add;               // to C as it is; otherwise sums begin at
  const float* start;     // 16 values for each vector, the same in all rows, or, where this is null, at zero
  const index* start_column;
  bool* special;          // null, or set for rows of A with a value that is infinite or NaN
};

constexpr index kMatrixRows = 256, kMatrixDepth = 512;  // rows and K of a block of A
constexpr size_t kMatrixRoom = size_t(6) * kMatrixDepth * (kMatrixRows + 2 * 16) + 1024;
constexpr size_t matrix_tiles(index K) { return size_t((K + 31) / 32) * 3072; }  // bytes of a vector of B

// Each value of C is one sum, in an order that depends on K alone. Where a row of A or a column of B has an infinite
// value, C may be NaN instead of infinite.
struct MatrixKernels {
  void (*product)(const MatrixProduct&, void* room);  // room: kMatrixRoom bytes, aligned to 64
  // B's vectors of columns in parts, `stride` bytes apart. False: not all of it is finite.
  bool (*split)(const MatrixProduct&, char* tiles, size_t stride);
};

}  // namespace fastrnn
