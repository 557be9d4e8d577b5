// Training kernels for x86 processors with AVX-512 and bfloat16, of channels-last pictures: gradients of depthwise
// convolutions, and batch normalization in one pass with the activation after it.
//
// PyTorch's own gradients of depthwise convolutions take three quarters of a step of EfficientNet-Lite in bfloat16.
// 085_efficientnet_lite.py compiles this file:  g++ -O3 -march=sapphirerapids -shared -fPIC
//
// Shapes: x is (pictures, height, width, channels), g the gradient of (pictures, out_height, out_width, channels);
// sums are float32 or wider.  Depthwise kernels take channels in multiples of 16, normalization in multiples of 8.

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

using bfloat16 = uint16_t;
constexpr long LANES = 16;
constexpr long ROWS = 256;  // pixels whose sum is kept in float32 before it is added in double
constexpr __mmask16 ALL = 0xFFFF;

inline __m512 load(const bfloat16* from, __mmask16 mask = ALL) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from)), 16));
}

inline void store(bfloat16* to, __m512 value, __mmask16 mask = ALL) {
  _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(value));
}

inline __mmask16 lanes(long channels_left) { return channels_left >= LANES ? ALL : 0xFF; }

// Scratch memory that lasts from call to call; calls must not overlap.
float* scratch(size_t floats) {
  static float* memory = nullptr;
  static size_t size = 0;
  if (floats > size) {
    free(memory);
    memory = static_cast<float*>(aligned_alloc(64, floats * sizeof(float)));
    size = floats;
  }
  return memory;
}

struct Shape {
  long pictures, height, width, out_height, out_width, channels, top, left;
};

struct Padded {
  long height, width;
};

template <int K, int S>
Padded padded(const Shape& s) {
  Padded p{(s.out_height - 1) * S + K, (s.out_width - 1) * S + K};
  if (p.height < s.height + s.top) p.height = s.height + s.top;
  if (p.width < s.width + s.left) p.width = s.width + s.left;
  return p;
}

// Sixteen channels of one picture at a time are unpacked with their padding, so that no tap needs a check.
template <int K, int S>
void weight_gradient(const bfloat16* x, const bfloat16* g, float* result, const Shape& s) {
  const Padded p = padded<K, S>(s);
  float* plane = scratch(p.height * p.width * LANES + s.out_width * LANES);
  float* row = plane + p.height * p.width * LANES;
  for (long c = 0; c < s.channels; c += LANES) {
    memset(plane, 0, p.height * p.width * LANES * sizeof(float));
    __m512 total[K * K];
    for (auto& each : total) each = _mm512_setzero_ps();
    for (long n = 0; n < s.pictures; n++) {
      for (long y = 0; y < s.height; y++)
        for (long w = 0; w < s.width; w++)
          _mm512_store_ps(plane + ((y + s.top) * p.width + w + s.left) * LANES,
                          load(x + ((n * s.height + y) * s.width + w) * s.channels + c));
      for (long y = 0; y < s.out_height; y++) {
        const bfloat16* from = g + (n * s.out_height + y) * s.out_width * s.channels + c;
        for (long w = 0; w < s.out_width; w++) _mm512_store_ps(row + w * LANES, load(from + w * s.channels));
        for (int ky = 0; ky < K; ky++) {
          const float* taps = plane + (y * S + ky) * p.width * LANES;
          __m512 sum[K];
          for (int k = 0; k < K; k++) sum[k] = total[ky * K + k];
          for (long w = 0; w < s.out_width; w++) {
            const __m512 gradient = _mm512_load_ps(row + w * LANES);
#pragma GCC unroll 5
            for (int k = 0; k < K; k++)
              sum[k] = _mm512_fmadd_ps(gradient, _mm512_load_ps(taps + (w * S + k) * LANES), sum[k]);
          }
          for (int k = 0; k < K; k++) total[ky * K + k] = sum[k];
        }
      }
    }
    for (int t = 0; t < K * K; t++) {
      float each[LANES];
      _mm512_storeu_ps(each, total[t]);
      for (long j = 0; j < LANES; j++) result[(c + j) * K * K + t] = each[j];
    }
  }
}

template <int K, int S>
void input_gradient(const bfloat16* g, const float* weight, bfloat16* result, const Shape& s) {
  const Padded p = padded<K, S>(s);
  float* plane = scratch(p.height * p.width * LANES);
  for (long c = 0; c < s.channels; c += LANES) {
    __m512 kernel[K * K];
    for (int t = 0; t < K * K; t++) {
      float each[LANES];
      for (long j = 0; j < LANES; j++) each[j] = weight[(c + j) * K * K + t];
      kernel[t] = _mm512_loadu_ps(each);
    }
    for (long n = 0; n < s.pictures; n++) {
      memset(plane, 0, p.height * p.width * LANES * sizeof(float));
      for (long y = 0; y < s.out_height; y++)
        for (int ky = 0; ky < K; ky++) {
          float* taps = plane + (y * S + ky) * p.width * LANES;
          const bfloat16* from = g + (n * s.out_height + y) * s.out_width * s.channels + c;
          for (long w = 0; w < s.out_width; w++) {
            const __m512 gradient = load(from + w * s.channels);
#pragma GCC unroll 5
            for (int k = 0; k < K; k++) {
              float* tap = taps + (w * S + k) * LANES;
              _mm512_store_ps(tap, _mm512_fmadd_ps(gradient, kernel[ky * K + k], _mm512_load_ps(tap)));
            }
          }
        }
      for (long y = 0; y < s.height; y++)
        for (long w = 0; w < s.width; w++)
          store(result + ((n * s.height + y) * s.width + w) * s.channels + c,
                _mm512_load_ps(plane + ((y + s.top) * p.width + w + s.left) * LANES));
    }
  }
}

// What an activation lets through: 0 everything, 1 what is in 0..6 (ReLU6), 2 what is over 0 (ReLU).
inline float ceiling(long activation) { return activation == 2 ? INFINITY : 6.0f; }

inline __m512 gated(__m512 gradient, __m512 value, float top) {
  const __mmask16 through = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_GT_OQ) &
                            _mm512_cmp_ps_mask(value, _mm512_set1_ps(top), _CMP_LT_OQ);
  return _mm512_maskz_mov_ps(through, gradient);
}

// Two sums over all pixels for each channel, of what `terms` gives for a pixel.
template <typename Terms>
void sums(double* first, double* second, long pixels, long channels, Terms terms) {
  for (long c = 0; c < channels; c++) first[c] = second[c] = 0;
  float *one = scratch(2 * channels), *two = one + channels;
  for (long begin = 0; begin < pixels; begin += ROWS) {
    const long end = begin + ROWS < pixels ? begin + ROWS : pixels;
    memset(one, 0, 2 * channels * sizeof(float));
    for (long p = begin; p < end; p++)
      for (long c = 0; c < channels; c += LANES) {
        const __mmask16 mask = lanes(channels - c);
        __m512 a, b;
        terms(p * channels + c, c, mask, a, b);
        _mm512_mask_storeu_ps(one + c, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, one + c), a));
        _mm512_mask_storeu_ps(two + c, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, two + c), b));
      }
    for (long c = 0; c < channels; c++) {
      first[c] += one[c];
      second[c] += two[c];
    }
  }
}

}  // namespace

extern "C" {

void depthwise_weight_gradient(const bfloat16* x, const bfloat16* g, float* result, long pictures, long height,
                               long width, long out_height, long out_width, long channels, long kernel, long stride,
                               long top, long left) {
  const Shape s{pictures, height, width, out_height, out_width, channels, top, left};
  const auto of = kernel == 3 ? (stride == 1 ? weight_gradient<3, 1> : weight_gradient<3, 2>)
                              : (stride == 1 ? weight_gradient<5, 1> : weight_gradient<5, 2>);
  of(x, g, result, s);
}

void depthwise_input_gradient(const bfloat16* g, const float* weight, bfloat16* result, long pictures, long height,
                              long width, long out_height, long out_width, long channels, long kernel, long stride,
                              long top, long left) {
  const Shape s{pictures, height, width, out_height, out_width, channels, top, left};
  const auto of = kernel == 3 ? (stride == 1 ? input_gradient<3, 1> : input_gradient<3, 2>)
                              : (stride == 1 ? input_gradient<5, 1> : input_gradient<5, 2>);
  of(g, weight, result, s);
}

// Sums of x and of its squares.
void norm_sums(const bfloat16* x, double* sum, double* squares, long pixels, long channels) {
  sums(sum, squares, pixels, channels, [=](long at, long, __mmask16 mask, __m512& a, __m512& b) {
    a = load(x + at, mask);
    b = _mm512_mul_ps(a, a);
  });
}

// result = activation(x * scale + offset)
void norm_apply(const bfloat16* x, const float* scale, const float* offset, bfloat16* result, long pixels,
                long channels, long activation) {
  const __m512 zero = _mm512_setzero_ps(), top = _mm512_set1_ps(ceiling(activation));
  for (long p = 0; p < pixels; p++)
    for (long c = 0; c < channels; c += LANES) {
      const __mmask16 mask = lanes(channels - c);
      __m512 value = _mm512_fmadd_ps(load(x + p * channels + c, mask), _mm512_maskz_loadu_ps(mask, scale + c),
                                     _mm512_maskz_loadu_ps(mask, offset + c));
      if (activation) value = _mm512_min_ps(_mm512_max_ps(value, zero), top);
      store(result + p * channels + c, value, mask);
    }
}

// Sums of the gradient that comes through the activation, and of its product with x.
void norm_gradient_sums(const bfloat16* x, const bfloat16* g, const float* scale, const float* offset, double* sum,
                        double* products, long pixels, long channels, long activation) {
  const float top = ceiling(activation);
  sums(sum, products, pixels, channels, [=](long at, long c, __mmask16 mask, __m512& a, __m512& b) {
    const __m512 value = load(x + at, mask);
    a = load(g + at, mask);
    if (activation)
      a = gated(a,
                _mm512_fmadd_ps(value, _mm512_maskz_loadu_ps(mask, scale + c), _mm512_maskz_loadu_ps(mask, offset + c)),
                top);
    b = _mm512_mul_ps(value, a);
  });
}

// result = scale * gradient + slope * x + constant
void norm_gradient(const bfloat16* x, const bfloat16* g, const float* scale, const float* offset, const float* slope,
                   const float* constant, bfloat16* result, long pixels, long channels, long activation) {
  const float top = ceiling(activation);
  for (long p = 0; p < pixels; p++)
    for (long c = 0; c < channels; c += LANES) {
      const __mmask16 mask = lanes(channels - c);
      const __m512 value = load(x + p * channels + c, mask), a = _mm512_maskz_loadu_ps(mask, scale + c);
      __m512 gradient = load(g + p * channels + c, mask);
      if (activation)
        gradient = gated(gradient, _mm512_fmadd_ps(value, a, _mm512_maskz_loadu_ps(mask, offset + c)), top);
      const __m512 rest = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, slope + c), value,
                                          _mm512_maskz_loadu_ps(mask, constant + c));
      store(result + p * channels + c, _mm512_fmadd_ps(a, gradient, rest), mask);
    }
}

}  // extern "C"
