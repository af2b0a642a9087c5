// The lane type: one vector of the instruction set this object is compiled for, or one scalar where there is none.
//
// Built on GCC/Clang vector extensions, so that + - * / work as written. Only what they cannot say (min and max that
// let NaN through, partial loads and stores) is spelled per instruction set. Included by ISA objects only: everything
// here has internal linkage and is always inlined, because a weak symbol compiled for AVX-512 may be the copy that
// the linker keeps for the whole library.
#pragma once

#include <stdint.h>

#if defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernel_table.hpp"

// FASTRNN_ALWAYS: always inlined, for members and lambdas.
#if defined(__GNUC__) || defined(__clang__)
#define FASTRNN_ALWAYS __attribute__((always_inline))
#define FASTRNN_NOINLINE __attribute__((noinline)) static
#define FASTRNN_INLINE static inline FASTRNN_ALWAYS
#define FASTRNN_BUILTIN(name) __builtin_##name
#else
#include <math.h>
#include <string.h>
#define FASTRNN_ALWAYS
#define FASTRNN_NOINLINE static
#define FASTRNN_INLINE static inline
#define FASTRNN_BUILTIN(name) name
#endif

#if !defined(__GNUC__) && !defined(__clang__)
#define FASTRNN_VECTOR_BYTES 0  // scalar: correct anywhere
#elif defined(__AVX512F__)
#define FASTRNN_VECTOR_BYTES 64
#elif defined(__AVX__)
#define FASTRNN_VECTOR_BYTES 32
#elif defined(__SSE2__) || defined(__ARM_NEON)
#define FASTRNN_VECTOR_BYTES 16
#else
#define FASTRNN_VECTOR_BYTES 0
#endif

namespace fastrnn {
namespace {

constexpr int kIntoSecondCache = 2, kIntoFirstCache = 3;  // the compilers' words for locality
template <int where = kIntoSecondCache>
FASTRNN_INLINE void prefetch(const void* p) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(p, 0, where);
#else
  (void)p;
#endif
}

// What was stored there is loaded again: the compiler may not keep an array in registers whose address went through here.
FASTRNN_INLINE void in_memory(void* p) {
#if defined(__GNUC__) || defined(__clang__)
  __asm__("" : : "r"(p) : "memory");
#else
  (void)p;
#endif
}

// Registers decide the tile: 32 vector registers on AVX-512 and NEON, 16 elsewhere.
#if defined(__AVX512F__) || (defined(__ARM_NEON) && defined(__aarch64__))
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif

template <class T>
struct Lane;

#if FASTRNN_VECTOR_BYTES > 0
template <>
struct Lane<float> {
  typedef uint32_t Word;
  typedef float V __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef float U __attribute__((vector_size(FASTRNN_VECTOR_BYTES), aligned(4), may_alias));
  typedef uint32_t I __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};
template <>
struct Lane<double> {
  typedef uint64_t Word;
  typedef double V __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef double U __attribute__((vector_size(FASTRNN_VECTOR_BYTES), aligned(8), may_alias));
  typedef uint64_t I __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};
#else
template <>
struct Lane<float> {
  typedef uint32_t Word;
  typedef float V;
  typedef float U;
  typedef uint32_t I;
};
template <>
struct Lane<double> {
  typedef uint64_t Word;
  typedef double V;
  typedef double U;
  typedef uint64_t I;
};
#endif

// 32 random bits a lane, of as many lanes as a vector of float has.
#if FASTRNN_VECTOR_BYTES > 0
typedef uint32_t Bits __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
#else
typedef uint32_t Bits;
#endif

template <class T>
using Vec = typename Lane<T>::V;
template <class T>
using IntVec = typename Lane<T>::I;

template <class T>
constexpr int kLanes = int(sizeof(Vec<T>) / sizeof(T));

template <class T>
FASTRNN_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Lane<T>::U*>(p);
}
template <class T>
FASTRNN_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename Lane<T>::U*>(p) = v;
}
template <class T>
FASTRNN_INLINE Vec<T> splat(T x) {
#if FASTRNN_VECTOR_BYTES > 0
  return x - Vec<T>{};  // x - 0 is x for every x, -0.0 included; GCC turns it into one broadcast
#else
  return x;
#endif
}

// The first n lanes (0 < n <= kLanes); the others read as zero and are never touched in memory.
template <class T>
FASTRNN_INLINE Vec<T> load_first(const T* p, index n) {
  if (n == kLanes<T>) return load(p);
  T lane[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i < n ? p[i] : T(0);
  return load(lane);
}
template <class T>
FASTRNN_INLINE void store_first(T* p, Vec<T> v, index n) {
  if (n == kLanes<T>) return store(p, v);
  T lane[kLanes<T>];
  store(lane, v);
  for (index i = 0; i < n; ++i) p[i] = lane[i];
}
#if defined(__AVX512F__)
template <>
inline __attribute__((always_inline)) Vec<float> load_first<float>(const float* p, index n) {
  return (Vec<float>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
}
template <>
inline __attribute__((always_inline)) void store_first<float>(float* p, Vec<float> v, index n) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v);
}
template <>
inline __attribute__((always_inline)) Vec<double> load_first<double>(const double* p, index n) {
  return (Vec<double>)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p);
}
template <>
inline __attribute__((always_inline)) void store_first<double>(double* p, Vec<double> v, index n) {
  _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), (__m512d)v);
}
#endif

// clamp(x, lo, hi) with lo <= hi; NaN passes through (x86 min and max return their second operand on NaN).
#if defined(__AVX512F__)
FASTRNN_INLINE Vec<float> at_most(Vec<float> x, float hi) {
  return (Vec<float>)_mm512_min_ps(_mm512_set1_ps(hi), (__m512)x);
}
FASTRNN_INLINE Vec<double> at_most(Vec<double> x, double hi) {
  return (Vec<double>)_mm512_min_pd(_mm512_set1_pd(hi), (__m512d)x);
}
FASTRNN_INLINE Vec<float> clamp(Vec<float> x, float lo, float hi) {
  return at_most((Vec<float>)_mm512_max_ps(_mm512_set1_ps(lo), (__m512)x), hi);
}
FASTRNN_INLINE Vec<double> clamp(Vec<double> x, double lo, double hi) {
  return at_most((Vec<double>)_mm512_max_pd(_mm512_set1_pd(lo), (__m512d)x), hi);
}
#elif defined(__AVX__)
FASTRNN_INLINE Vec<float> clamp(Vec<float> x, float lo, float hi) {
  return (Vec<float>)_mm256_min_ps(_mm256_set1_ps(hi), _mm256_max_ps(_mm256_set1_ps(lo), (__m256)x));
}
FASTRNN_INLINE Vec<double> clamp(Vec<double> x, double lo, double hi) {
  return (Vec<double>)_mm256_min_pd(_mm256_set1_pd(hi), _mm256_max_pd(_mm256_set1_pd(lo), (__m256d)x));
}
#elif defined(__SSE2__)
FASTRNN_INLINE Vec<float> clamp(Vec<float> x, float lo, float hi) {
  return (Vec<float>)_mm_min_ps(_mm_set1_ps(hi), _mm_max_ps(_mm_set1_ps(lo), (__m128)x));
}
FASTRNN_INLINE Vec<double> clamp(Vec<double> x, double lo, double hi) {
  return (Vec<double>)_mm_min_pd(_mm_set1_pd(hi), _mm_max_pd(_mm_set1_pd(lo), (__m128d)x));
}
#else
template <class V, class T>
FASTRNN_INLINE V clamp(V x, T lo, T hi) {
#if FASTRNN_VECTOR_BYTES > 0
  const V l = lo - V{}, h = hi - V{};
#else
  const V l = lo, h = hi;
#endif
  const V above = x < l ? l : x;
  return above > h ? h : above;
}
#endif

#if defined(__AVX512DQ__)
// The nearest integer, what is left of t beside it, and x * 2^k for an integer k: one instruction each.
FASTRNN_INLINE Vec<float> nearest(Vec<float> t) { return (Vec<float>)_mm512_roundscale_ps((__m512)t, 0); }
FASTRNN_INLINE Vec<double> nearest(Vec<double> t) { return (Vec<double>)_mm512_roundscale_pd((__m512d)t, 0); }
FASTRNN_INLINE Vec<float> past_nearest(Vec<float> t) { return (Vec<float>)_mm512_reduce_ps((__m512)t, 0); }
FASTRNN_INLINE Vec<double> past_nearest(Vec<double> t) { return (Vec<double>)_mm512_reduce_pd((__m512d)t, 0); }
FASTRNN_INLINE Vec<float> times_exp2(Vec<float> x, Vec<float> k) {
  return (Vec<float>)_mm512_scalef_ps((__m512)x, (__m512)k);
}
FASTRNN_INLINE Vec<double> times_exp2(Vec<double> x, Vec<double> k) {
  return (Vec<double>)_mm512_scalef_pd((__m512d)x, (__m512d)k);
}
#endif

// a*b + c, fused where the instruction set can. The compiler contracts sums by heuristics; this is for loops written
// differently that must round alike.
template <class T>
FASTRNN_INLINE Vec<T> multiply_add(Vec<T> a, Vec<T> b, Vec<T> c) {
#if FASTRNN_VECTOR_BYTES == 0 && (defined(__FMA__) || defined(__FP_FAST_FMA))
  return sizeof(T) == 4 ? T(FASTRNN_BUILTIN(fmaf)(float(a), float(b), float(c)))
                        : T(FASTRNN_BUILTIN(fma)(double(a), double(b), double(c)));
#else
  return a * b + c;
#endif
}
#if FASTRNN_VECTOR_BYTES == 64
template <>
inline __attribute__((always_inline)) Vec<float> multiply_add<float>(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
template <>
inline __attribute__((always_inline)) Vec<double> multiply_add<double>(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif FASTRNN_VECTOR_BYTES == 32 && defined(__FMA__)
template <>
inline __attribute__((always_inline)) Vec<float> multiply_add<float>(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
template <>
inline __attribute__((always_inline)) Vec<double> multiply_add<double>(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#elif FASTRNN_VECTOR_BYTES == 16 && defined(__ARM_NEON) && defined(__aarch64__)
template <>
inline __attribute__((always_inline)) Vec<float> multiply_add<float>(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
template <>
inline __attribute__((always_inline)) Vec<double> multiply_add<double>(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#endif

// Bits of a floating vector as integers and back.
template <class T>
FASTRNN_INLINE IntVec<T> as_int(Vec<T> v) {
#if FASTRNN_VECTOR_BYTES > 0
  return (IntVec<T>)v;
#else
  IntVec<T> i;
  FASTRNN_BUILTIN(memcpy)(&i, &v, sizeof(T));
  return i;
#endif
}
template <class T>
FASTRNN_INLINE Vec<T> as_float(IntVec<T> v) {
#if FASTRNN_VECTOR_BYTES > 0
  return (Vec<T>)v;
#else
  Vec<T> f;
  FASTRNN_BUILTIN(memcpy)(&f, &v, sizeof(T));
  return f;
#endif
}

}  // namespace
}  // namespace fastrnn
