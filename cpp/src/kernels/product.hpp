// How a word of a row and a word of the weights become part of a sum, for each kind of value that a product reads; and
// how an epilogue writes rows of them.
//
// A word is taken in `parts`. Instructions for two or four neighbours along K take it whole, where the object is
// compiled for a CPU that has them; elsewhere each part is spread over the lanes first. Sums of Int8 are exact. Those
// of Bfloat16 differ between instruction sets by the rounding of float additions: their products are exact in float.
#pragma once

#include "simd.hpp"

namespace fastrnn {
namespace {

template <class T>
FASTRNN_INLINE T read(const void* p) {
  return *static_cast<const T*>(p);
}
template <>
inline FASTRNN_ALWAYS uint32_t read<uint32_t>(const void* p) {  // a word holds values that were written as others
  uint32_t word;
  FASTRNN_BUILTIN(memcpy)(&word, p, sizeof(word));
  return word;
}

typedef IntVec<float> Words;
template <>
constexpr int kLanes<uint32_t> = kLanes<float>;

FASTRNN_INLINE Words load_words(const uint32_t* p) {
#if FASTRNN_VECTOR_BYTES > 0
  typedef uint32_t Unaligned __attribute__((vector_size(FASTRNN_VECTOR_BYTES), aligned(4), may_alias));
  return (Words) * reinterpret_cast<const Unaligned*>(p);
#else
  return *p;
#endif
}
FASTRNN_INLINE Words splat_word(uint32_t x) { return x + Words{}; }
// The same, where parts are to be taken of the vector: GCC would take them of the scalar and then move each over.
FASTRNN_INLINE Words splat_to_part(uint32_t x) {
  Words v = splat_word(x);
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#elif defined(__SSE2__) && FASTRNN_VECTOR_BYTES > 0
  __asm__("" : "+x"(v));
#endif
  return v;
}

#if FASTRNN_VECTOR_BYTES > 0
typedef int32_t Integers __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
typedef int16_t Shorts __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
typedef uint16_t UnsignedShorts __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
#else
typedef int32_t Integers;
#endif

FASTRNN_INLINE Vec<float> to_float(Words sums) {
#if FASTRNN_VECTOR_BYTES > 0
  return __builtin_convertvector((Integers)sums, Vec<float>);
#else
  return float(int32_t(sums));
#endif
}

// T itself.
template <class W>
struct Product {
  static constexpr bool exact = false;
  static constexpr int lanes = kLanes<W>, parts = 1;
  typedef Vec<W> Sum;
  typedef Vec<W> Factor;
  FASTRNN_INLINE Factor weights(const W* w, int) { return load<W>(w); }
  FASTRNN_INLINE Factor operand(W x, int) { return splat<W>(x); }
  FASTRNN_INLINE void add(Sum& sum, Factor x, Factor w) { sum += x * w; }
};

template <>
struct Product<Bfloat16> {
  static constexpr bool exact = false;
  static constexpr int lanes = kLanes<float>;
  typedef Vec<float> Sum;
#if defined(__AVX512BF16__)
  static constexpr int parts = 1;
  typedef Words Factor;
  FASTRNN_INLINE Factor weights(const uint32_t* w, int) { return load_words(w); }
  FASTRNN_INLINE Factor operand(uint32_t x, int) { return splat_word(x); }
  FASTRNN_INLINE void add(Sum& sum, Factor x, Factor w) {
    sum = (Sum)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w);
  }
#else
  static constexpr int parts = 2;
  typedef Vec<float> Factor;
  FASTRNN_INLINE Factor half(Words w, int part) { return as_float<float>(part == 0 ? w << 16 : w & 0xffff0000u); }
  FASTRNN_INLINE Factor weights(const uint32_t* w, int part) { return half(load_words(w), part); }
  FASTRNN_INLINE Factor operand(uint32_t x, int part) { return half(splat_to_part(x), part); }
  FASTRNN_INLINE void add(Sum& sum, Factor x, Factor w) { sum += x * w; }
#endif
};

template <>
struct Product<Int8> {
  static constexpr bool exact = true;
  static constexpr int lanes = kLanes<float>;
  typedef Words Sum;
  typedef Words Factor;
  FASTRNN_INLINE Sum start(const int32_t* p) { return load_words(reinterpret_cast<const uint32_t*>(p)); }
#if defined(__AVX512VNNI__)
  static constexpr int parts = 1;
  FASTRNN_INLINE Factor weights(const uint32_t* w, int) { return load_words(w); }
  FASTRNN_INLINE Factor operand(uint32_t x, int) { return splat_word(x); }
  FASTRNN_INLINE void add(Sum& sum, Factor x, Factor w) {
    sum = (Sum)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
  }
#elif defined(__SSE2__) && FASTRNN_VECTOR_BYTES > 0
  // Pairs of 16 bits: the bytes 0 and 2 of a word, then 1 and 3. (Pairs of bytes, pmaddubsw, would saturate.)
  static constexpr int parts = 2;
  FASTRNN_INLINE Factor weights(const uint32_t* w, int part) {
    const Shorts pairs = (Shorts)load_words(w);
    return (Factor)(part == 0 ? (pairs << 8) >> 8 : pairs >> 8);
  }
  FASTRNN_INLINE Factor operand(uint32_t x, int part) {
    const Words pairs = splat_to_part(x);
    return part == 0 ? pairs & 0x00ff00ffu : (Factor)((UnsignedShorts)pairs >> 8);
  }
  FASTRNN_INLINE void add(Sum& sum, Factor x, Factor w) {
#if defined(__AVX512F__)
    sum += (Words)_mm512_madd_epi16((__m512i)x, (__m512i)w);
#elif defined(__AVX2__)
    sum += (Words)_mm256_madd_epi16((__m256i)x, (__m256i)w);
#else
    sum += (Words)_mm_madd_epi16((__m128i)x, (__m128i)w);
#endif
  }
#else
  static constexpr int parts = 4;
  FASTRNN_INLINE Factor weights(const uint32_t* w, int part) {
    return (Factor)((Integers)(load_words(w) << (24 - 8 * part)) >> 24);
  }
  FASTRNN_INLINE Factor operand(uint32_t x, int part) { return splat_word((x >> 8 * part) & 0xffu); }
  FASTRNN_INLINE void add(Sum& sum, Factor x, Factor w) { sum += x * w; }
#endif
};

// The first n lanes of v, rounded to the nearest (ties to even), NaN to NaN.
FASTRNN_INLINE void store_reduced(Bfloat16* p, Vec<float> v, index n, Quantum) {
  const Words bits = as_int<float>(v);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words nan = (bits >> 16) | 0x40u;
#if FASTRNN_VECTOR_BYTES > 0
  typedef uint16_t Half __attribute__((vector_size(FASTRNN_VECTOR_BYTES / 2)));
  typedef uint16_t HalfInMemory __attribute__((vector_size(FASTRNN_VECTOR_BYTES / 2), aligned(2), may_alias));
  const Half half = __builtin_convertvector(v == v ? rounded : nan, Half);
  if (n >= kLanes<float>)
    *reinterpret_cast<HalfInMemory*>(p) = half;
  else
    for (index i = 0; i < n; ++i) p[i].bits = half[i];
#else
  if (n > 0) p->bits = uint16_t(v == v ? rounded : nan);
#endif
}

// Integers of -127 to 127; NaN becomes some number.
FASTRNN_INLINE void store_reduced(Int8* p, Vec<float> v, index n, Quantum quantum) {
  // adding 1.5 * 2^23 leaves the nearest integer in the low bits
  const Words bits = as_int<float>(clamp(v * quantum.per_one, -127.0f, 127.0f) + 12582912.0f) + 128u;
#if FASTRNN_VECTOR_BYTES > 0
  typedef uint8_t Quarter __attribute__((vector_size(FASTRNN_VECTOR_BYTES / 4)));
  typedef uint8_t QuarterInMemory __attribute__((vector_size(FASTRNN_VECTOR_BYTES / 4), aligned(1), may_alias));
  const Quarter quarter = __builtin_convertvector(bits & 0xffu, Quarter);
  if (n >= kLanes<float>)
    *reinterpret_cast<QuarterInMemory*>(p) = quarter;
  else
    for (index i = 0; i < n; ++i) p[i].bits = quarter[i];
#else
  if (n > 0) p->bits = uint8_t(bits & 0xffu);
#endif
}

}  // namespace
}  // namespace fastrnn
