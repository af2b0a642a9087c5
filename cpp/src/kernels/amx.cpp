// Products of float matrices by AMX, which multiplies tiles of 16 x 32 by 32 x 16 bfloat16 values and sums in float.
//
// A float is the sum of three bfloat16 of eight bits each, exactly. Of the nine products of two such triples the six
// largest are taken; what is left out is at most 2^-21 of the product and 2^-24 on average, as much as one rounding loses.
// AMX does 16 times the multiply-adds of AVX-512's FMA, so that six take 3/8 of the time. (The idea: G. Henry, P. T. P.
// Tang, A. Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations",
// ARITH 2019.) Values below 2^-110 keep fewer bits, because AMX takes denormal parts for zero.
#include <immintrin.h>

#include "matrix_product.hpp"
#include "transpose.hpp"

namespace fastrnn {
namespace {

constexpr index kSide = 16, kDeep = 32;            // rows or columns of a tile; values of K, in pairs
constexpr index kTile = 1024, kStep = 3 * kTile;   // bytes of a tile, and of its three parts: high, middle, low
constexpr index kHigh = 0, kMiddle = kTile, kLow = 2 * kTile;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_of_row[16] = {};
  uint8_t rows[16] = {};
};

// The upper parts that a float leaves when it is cut off: the rest is exact, and so is what it leaves in turn.
FASTRNN_INLINE __m512 upper(__m512 v) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(int(0xffff0000u))));
}
struct Parts {
  __m512 high, middle, low;
  FASTRNN_ALWAYS explicit Parts(__m512 v) : high(upper(v)), middle(upper(v - high)), low(v - high - middle) {}
};

FASTRNN_INLINE __mmask16 first_lanes(index n) { return __mmask16(n >= kSide ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }
FASTRNN_INLINE __mmask16 special_lanes(__m512 v) { return _mm512_fpclass_ps_mask(v, 0x99); }  // NaN, infinities

// The upper halves of the words of `even`, and those of `odd`, side by side.
FASTRNN_INLINE void store_pairs(char* to, __m512 even, __m512 odd) {
  const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even), 16);
  _mm512_store_si512(to, _mm512_mask_blend_epi16(0xaaaaaaaau, low, _mm512_castps_si512(odd)));
}
// Those of 32 neighbours.
FASTRNN_INLINE void store_row(char* to, __m512 first, __m512 second) {
  const __m512i odd_words = _mm512_add_epi16(
      _mm512_set1_epi16(1), _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26,
                                             24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0));
  _mm512_store_si512(to, _mm512_permutex2var_epi16(_mm512_castps_si512(first), odd_words, _mm512_castps_si512(second)));
}

// One row of A, K values, to row i of the tiles. Returns whether one is special.
FASTRNN_INLINE bool split_row(const float* a, index K, char* tiles, index i) {
  unsigned special = 0;
  char* to = tiles + i * 64;
  for (index k = 0; k < K; k += kDeep, to += kStep) {
    const __m512 first = _mm512_maskz_loadu_ps(first_lanes(K - k), a + k);
    const __m512 second = _mm512_maskz_loadu_ps(first_lanes(K - k - kSide), a + k + kSide);
    special |= special_lanes(first) | special_lanes(second);
    const Parts x(first), y(second);
    store_row(to + kHigh, x.high, y.high);
    store_row(to + kMiddle, x.middle, y.middle);
    store_row(to + kLow, x.low, y.low);
  }
  return special != 0;
}

// The values [begin, end) of a row of A: in their place, or gathered from its runs.
FASTRNN_INLINE const float* gather_row(const MatrixProduct& p, const float* row, index begin, index end, float* line) {
  if (!p.segment) return row + begin;
  index at = 0;
  for (index i = 0; i < p.segments && at < end; at += p.segment_length[i++]) {
    const index first = begin > at ? begin - at : 0;
    const index last = end - at < p.segment_length[i] ? end - at : p.segment_length[i];
    for (index k = first; k < last; k += kSide) {
      const __mmask16 lanes = first_lanes(last - k);
      _mm512_mask_storeu_ps(line + at - begin + k, lanes, _mm512_maskz_loadu_ps(lanes, row + p.segment[i] + k));
    }
  }
  return line;
}

// The rows [row, row + rows) of A, at most 16, and K values of it from `k` on: one tile of each part after the other.
FASTRNN_NOINLINE void split_a(const MatrixProduct& p, index row, index rows, index k, index K, char* tiles) {
  alignas(64) float line[kMatrixDepth];
  for (index i = 0; i < kSide; ++i) {
    if (i >= rows) {
      for (index s = 0; s < (K + kDeep - 1) / kDeep; ++s)
        for (index part = 0; part < kStep; part += kTile)
          _mm512_store_si512(tiles + s * kStep + part + i * 64, _mm512_setzero_si512());
      continue;
    }
    const float* a = p.a + (p.a_offset ? p.a_offset[row + i] : (row + i) * p.a_stride);
    const bool special = split_row(gather_row(p, a, k, k + K, line), K, tiles, i);
    if (p.special && special) p.special[row + i] = true;
  }
}

// The same of an A that stands transposed; `vector`: which of its 16 rows.
FASTRNN_NOINLINE void split_transposed(const MatrixProduct& p, index vector, index rows, index k, index K, char* tiles) {
  const __mmask16 lanes = first_lanes(rows);
  for (index s = 0; s < K; s += kDeep, tiles += kStep) {
    alignas(64) float block[kSide][kDeep];
    for (index half = 0; half < kDeep; half += kSide) {
      Vec<float> row[kSide];
#pragma GCC unroll 16
      for (index i = 0; i < kSide; ++i) {
        const index at = k + s + half + i;
        row[i] = s + half + i >= K ? Vec<float>{}
                                   : (Vec<float>)_mm512_maskz_loadu_ps(
                                         lanes, p.a + (p.a_offset ? p.a_offset[at] : at * p.a_stride) +
                                                    p.vector_of_rows[vector]);
      }
      transpose_rows<float, kSide>(row);
#pragma GCC unroll 16
      for (index i = 0; i < kSide; ++i) store<float>(block[i] + half, row[i]);
    }
    for (index i = 0; i < kSide; ++i) split_row(block[i], kDeep, tiles, i);
  }
}

// K values of a vector of B's columns from `k` on.
FASTRNN_NOINLINE bool split_b(const MatrixProduct& p, index vector, index k, index K, char* tiles) {
  const float* const b = p.b + p.b_column[vector];
  unsigned special = 0;
  const auto split = [&](__m512 even, __m512 odd, char* to) FASTRNN_ALWAYS {
    special |= special_lanes(even) | special_lanes(odd);
    const Parts x(even), y(odd);
    store_pairs(to + kHigh, x.high, y.high);
    store_pairs(to + kMiddle, x.middle, y.middle);
    store_pairs(to + kLow, x.low, y.low);
  };
  const auto split_all = [&](const auto& at) FASTRNN_ALWAYS {
    const __m512 zero = _mm512_setzero_ps();
    for (index s = 0; s < K; s += kDeep, tiles += kStep) {
      const index pairs = (K - s < kDeep ? K - s : kDeep) / 2;
      index i = 0;
      for (; i < pairs; ++i)
        split(_mm512_loadu_ps(b + at(s + 2 * i)), _mm512_loadu_ps(b + at(s + 2 * i + 1)), tiles + i * 64);
      for (; i < kSide; ++i)
        split(s + 2 * i < K ? _mm512_loadu_ps(b + at(s + 2 * i)) : zero, zero, tiles + i * 64);
    }
  };
  if (p.b_offset)
    split_all([&](index i) FASTRNN_ALWAYS { return p.b_offset[k + i]; });
  else
    split_all([&](index i) FASTRNN_ALWAYS { return (k + i) * p.b_stride; });
  return special == 0;
}

// Sums are tiles 0 to 3, of A 4 and 5, of B 6 and 7: MA by NB of them.
template <int MA>
FASTRNN_INLINE void load_a(const char* a, index next) {
  _tile_loadd(4, a, 64);
  if constexpr (MA > 1) _tile_loadd(5, a + next, 64);
}
template <int NB>
FASTRNN_INLINE void load_b(const char* b, index next) {
  _tile_loadd(6, b, 64);
  if constexpr (NB > 1) _tile_loadd(7, b + next, 64);
}
template <int MA, int NB>
FASTRNN_INLINE void multiply_tiles() {
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (NB > 1) _tile_dpbf16ps(1, 4, 7);
  if constexpr (MA > 1) _tile_dpbf16ps(2, 5, 6);
  if constexpr (MA > 1 && NB > 1) _tile_dpbf16ps(3, 5, 7);
}

// The smallest products first. Each load serves all products that can use it.
//
// A processor that stores no tile for 800 nanoseconds takes 300 more for the next store (measured, Granite Rapids: 25 %
// of a sum over 256 values of K). So it stores one now and then, which nobody reads.
template <int MA, int NB>
FASTRNN_INLINE void multiply(const char* a, index next_a, const char* b, index next_b, index steps, char* unread) {
  for (index s = 0; s < steps; ++s, a += kStep, b += kStep) {
    if (s % 4 == 3) _tile_stored(6, unread, 64);
    load_a<MA>(a + kLow, next_a);
    load_b<NB>(b + kHigh, next_b);
    multiply_tiles<MA, NB>();
    load_a<MA>(a + kMiddle, next_a);
    multiply_tiles<MA, NB>();
    load_b<NB>(b + kMiddle, next_b);
    multiply_tiles<MA, NB>();
    load_a<MA>(a + kHigh, next_a);
    multiply_tiles<MA, NB>();
    load_b<NB>(b + kLow, next_b);
    multiply_tiles<MA, NB>();
    load_b<NB>(b + kHigh, next_b);
    multiply_tiles<MA, NB>();
  }
}

// Where the sums of a tile begin and end up. A tile of fewer than 16 rows goes by way of `whole`.
struct SumTile {
  float* c;
  index stride, rows;
  const float* start;  // as in MatrixProduct
  bool add;
  alignas(64) float whole[kSide * kSide];

  FASTRNN_ALWAYS float* place() { return rows < kSide ? whole : c; }
  FASTRNN_ALWAYS index bytes() const { return (rows < kSide ? kSide : stride) * index(sizeof(float)); }
  FASTRNN_ALWAYS void prepare() {
    for (index r = 0; add && rows < kSide && r < rows; ++r)
      _mm512_store_ps(whole + r * kSide, _mm512_loadu_ps(c + r * stride));
  }
  FASTRNN_ALWAYS void finish() const {
    for (index r = 0; rows < kSide && r < rows; ++r)
      _mm512_storeu_ps(c + r * stride, _mm512_load_ps(whole + r * kSide));
  }
};

FASTRNN_INLINE void fetch_tile(const float* c, index stride, index rows) {
  for (index r = 0; r < rows; ++r) prefetch(c + r * stride);
}

#define FASTRNN_LOAD_SUM(tile, sum)                                 \
  if ((sum).add)                                                    \
    _tile_loadd(tile, (sum).place(), (sum).bytes());                \
  else if ((sum).start)                                             \
    _tile_loadd(tile, (sum).start, 0);                              \
  else                                                              \
    _tile_zero(tile)

template <int MA, int NB>
FASTRNN_NOINLINE void sum_tiles(SumTile (&sum)[2][2], const char* a, index next_a, const char* b, index next_b,
                                index steps, char* unread) {
  for (int m = 0; m < MA; ++m)
    for (int n = 0; n < NB; ++n) sum[m][n].prepare();
  __asm__ volatile("" : : : "memory");  // nor does GCC see what a tile is loaded from
  FASTRNN_LOAD_SUM(0, sum[0][0]);
  if constexpr (NB > 1) { FASTRNN_LOAD_SUM(1, sum[0][1]); }
  if constexpr (MA > 1) { FASTRNN_LOAD_SUM(2, sum[1][0]); }
  if constexpr (MA > 1 && NB > 1) { FASTRNN_LOAD_SUM(3, sum[1][1]); }
  multiply<MA, NB>(a, next_a, b, next_b, steps, unread);
  _tile_stored(0, sum[0][0].place(), sum[0][0].bytes());
  if constexpr (NB > 1) _tile_stored(1, sum[0][1].place(), sum[0][1].bytes());
  if constexpr (MA > 1) _tile_stored(2, sum[1][0].place(), sum[1][0].bytes());
  if constexpr (MA > 1 && NB > 1) _tile_stored(3, sum[1][1].place(), sum[1][1].bytes());
  for (int m = 0; m < MA; ++m)
    for (int n = 0; n < NB; ++n) sum[m][n].finish();
}

static void matrix_product(const MatrixProduct& p, void* room) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.rows[i] = uint8_t(kSide);
    config.bytes_of_row[i] = 64;
  }
  __asm__ volatile("" : : "r"(&config) : "memory");  // GCC before 12.4 sees only the first bytes of it read
  _tile_loadconfig(&config);
  char* const unread = static_cast<char*>(room);
  char* const a = unread + kTile;
  for (index row = 0; row < p.rows; row += kMatrixRows) {
    const index rows = p.rows - row < kMatrixRows ? p.rows - row : kMatrixRows, tiles = (rows + kSide - 1) / kSide;
    for (index k = 0; k < p.K; k += kMatrixDepth) {
      const index K = p.K - k < kMatrixDepth ? p.K - k : kMatrixDepth;
      const index steps = (K + kDeep - 1) / kDeep, next = steps * kStep;
      // B in parts: those of a block, two vectors at a time, or all that `split` has made
      char* const block = a + tiles * next;
      const index next_b = p.b_tiles ? index(matrix_tiles(p.K)) : next;
      const auto rows_of = [&](index m) { return rows - m * kSide < kSide ? rows - m * kSide : kSide; };
      for (index m = 0; m < tiles; ++m) {
        if (p.vector_of_rows)
          split_transposed(p, row / kSide + m, rows_of(m), k, K, a + m * next);
        else
          split_a(p, row + m * kSide, rows_of(m), k, K, a + m * next);
      }
      for (index v = 0; v < p.columns; v += 2) {
        const int wide = p.columns - v < 2 ? 1 : 2;
        for (int n = 0; n < wide && !p.b_tiles; ++n) split_b(p, v + n, k, K, block + n * next);
        const char* const b = p.b_tiles ? p.b_tiles + v * next_b + k / kDeep * kStep : block;
        for (index m = 0; m < tiles; m += 2) {
          const int high = tiles - m < 2 ? 1 : 2;
          SumTile sum[2][2];
          const auto place = [&](index m, int n) {
            const index tile = row / kSide + m;
            return p.c + (p.c_block ? p.c_block[tile] : tile * kSide * p.c_stride) + p.c_column[v + n];
          };
          for (int i = 0; i < 2 && p.add; ++i)  // sums may come from far: the next ones are fetched meanwhile
            for (int n = 0; n < wide && m + 2 + i < tiles; ++n)
              fetch_tile(place(m + 2 + i, n), p.c_stride, rows_of(m + 2 + i));
          for (int i = 0; i < high; ++i)
            for (int n = 0; n < wide; ++n) {
              SumTile& s = sum[i][n];
              s.c = place(m + i, n);
              s.stride = p.c_stride;
              s.rows = rows_of(m + i);
              s.start = p.start ? p.start + p.start_column[v + n] : nullptr;
              s.add = p.add || k > 0;
            }
          const char* from = a + m * next;
          if (high == 2 && wide == 2) sum_tiles<2, 2>(sum, from, next, b, next_b, steps, unread);
          else if (high == 2) sum_tiles<2, 1>(sum, from, next, b, next_b, steps, unread);
          else if (wide == 2) sum_tiles<1, 2>(sum, from, next, b, next_b, steps, unread);
          else sum_tiles<1, 1>(sum, from, next, b, next_b, steps, unread);
        }
      }
    }
  }
  _tile_release();
}

static bool split_all(const MatrixProduct& p, char* tiles, size_t stride) {
  bool finite = true;
  for (index v = 0; v < p.columns; ++v) finite &= split_b(p, v, 0, p.K, tiles + size_t(v) * stride);
  return finite;
}

}  // namespace

extern const MatrixKernels FASTRNN_TABLE;
const MatrixKernels FASTRNN_TABLE = {matrix_product, split_all};

}  // namespace fastrnn
