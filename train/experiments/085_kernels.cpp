// Training kernels of channels-last images: gradients of depthwise convolutions, and batch normalization in one pass
// with the activation after it.
//
// PyTorch's own gradients of depthwise convolutions take three quarters of a step of EfficientNet-Lite in bfloat16, and
// half of one in float32.  085_efficientnet_lite.py compiles this file, with -DBFLOAT16 or without:
//
//     g++ -std=c++17 -O3 -march=native -shared -fPIC
//
// Shapes: x is (images, height, width, channels), g the gradient of (images, out_height, out_width, channels); sums are
// float32 or wider. Channels come in multiples of 8, those of depthwise kernels in multiples of `LANES`.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

namespace {

#ifdef __AVX512F__
constexpr long LANES = 16;
#else
constexpr long LANES = 8;
#endif
constexpr long ROWS = 256;  // pixels whose sum is kept in float32 before it is added in double

template <long N>
struct Vectors {
  typedef float Floats __attribute__((vector_size(4 * N)));
  typedef uint32_t Words __attribute__((vector_size(4 * N)));
  typedef uint16_t Halves __attribute__((vector_size(2 * N)));
};

template <long N>
using Floats = typename Vectors<N>::Floats;

template <typename Vector, typename Element>
inline Vector copied(const Element* from) {
  Vector vector;
  memcpy(&vector, from, sizeof vector);
  return vector;
}

template <long N>
inline Floats<N> load(const float* from) {
  return copied<Floats<N>>(from);
}

template <long N>
inline void store(float* to, Floats<N> value) {
  memcpy(to, &value, sizeof value);
}

#ifdef BFLOAT16
using Number = uint16_t;  // the upper half of a float32

template <long N>
inline Floats<N> load(const Number* from) {
  using Words = typename Vectors<N>::Words;
  return (Floats<N>)(__builtin_convertvector(copied<typename Vectors<N>::Halves>(from), Words) << 16);
}

template <long N>
inline void store(Number* to, Floats<N> value) {  // rounds half to even
  const auto words = (typename Vectors<N>::Words)value;
  const auto halves = __builtin_convertvector((words + 0x7FFF + (words >> 16 & 1)) >> 16, typename Vectors<N>::Halves);
  memcpy(to, &halves, sizeof halves);
}
#else
using Number = float;
#endif

// Scratch memory that lasts from call to call; calls must not overlap.
float* scratch(size_t floats) {
  static float* memory = nullptr;
  static size_t size = 0;
  if (floats > size) {
    free(memory);
    size = (floats + 15) / 16 * 16;
    memory = static_cast<float*>(aligned_alloc(64, size * sizeof(float)));
  }
  return memory;
}

struct Shape {
  long images, height, width, out_height, out_width, channels, top, left;
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

// Some channels of one image at a time are unpacked with their padding, so that no tap needs a check. Images come one
// after the other, for one image fits into the cache.
template <int K, int S>
void weight_gradient(const Number* x, const Number* g, float* result, const Shape& s) {
  const Padded p = padded<K, S>(s);
  const long groups = s.channels / LANES;
  float* plane = scratch((p.height * p.width + s.out_width + groups * K * K) * LANES);
  float* row = plane + p.height * p.width * LANES;
  float* totals = row + s.out_width * LANES;
  memset(plane, 0, p.height * p.width * LANES * sizeof(float));
  memset(totals, 0, groups * K * K * LANES * sizeof(float));
  for (long n = 0; n < s.images; n++)
    for (long c = 0; c < s.channels; c += LANES) {
      float* total = totals + c * K * K;
      for (long y = 0; y < s.height; y++)
        for (long w = 0; w < s.width; w++)
          store<LANES>(plane + ((y + s.top) * p.width + w + s.left) * LANES,
                       load<LANES>(x + ((n * s.height + y) * s.width + w) * s.channels + c));
      for (long y = 0; y < s.out_height; y++) {
        const Number* from = g + (n * s.out_height + y) * s.out_width * s.channels + c;
        for (long w = 0; w < s.out_width; w++) store<LANES>(row + w * LANES, load<LANES>(from + w * s.channels));
        for (int ky = 0; ky < K; ky++) {
          const float* taps = plane + (y * S + ky) * p.width * LANES;
          Floats<LANES> sum[K];
          for (int k = 0; k < K; k++) sum[k] = load<LANES>(total + (ky * K + k) * LANES);
          for (long w = 0; w < s.out_width; w++) {
            const auto gradient = load<LANES>(row + w * LANES);
#pragma GCC unroll 5
            for (int k = 0; k < K; k++) sum[k] += gradient * load<LANES>(taps + (w * S + k) * LANES);
          }
          for (int k = 0; k < K; k++) store<LANES>(total + (ky * K + k) * LANES, sum[k]);
        }
      }
    }
  for (long c = 0; c < s.channels; c++)
    for (int t = 0; t < K * K; t++) result[c * K * K + t] = totals[(c / LANES * K * K + t) * LANES + c % LANES];
}

template <int K, int S>
void input_gradient(const Number* g, const float* weight, Number* result, const Shape& s) {
  const Padded p = padded<K, S>(s);
  float* plane = scratch(p.height * p.width * LANES);
  for (long n = 0; n < s.images; n++)
    for (long c = 0; c < s.channels; c += LANES) {
      Floats<LANES> kernel[K * K];
      for (int t = 0; t < K * K; t++)
        for (long j = 0; j < LANES; j++) kernel[t][j] = weight[(c + j) * K * K + t];
      memset(plane, 0, p.height * p.width * LANES * sizeof(float));
      for (long y = 0; y < s.out_height; y++)
        for (int ky = 0; ky < K; ky++) {
          float* taps = plane + (y * S + ky) * p.width * LANES;
          const Number* from = g + (n * s.out_height + y) * s.out_width * s.channels + c;
          for (long w = 0; w < s.out_width; w++) {
            const auto gradient = load<LANES>(from + w * s.channels);
#pragma GCC unroll 5
            for (int k = 0; k < K; k++) {
              float* tap = taps + (w * S + k) * LANES;
              store<LANES>(tap, load<LANES>(tap) + gradient * kernel[ky * K + k]);
            }
          }
        }
      for (long y = 0; y < s.height; y++)
        for (long w = 0; w < s.width; w++)
          store<LANES>(result + ((n * s.height + y) * s.width + w) * s.channels + c,
                       load<LANES>(plane + ((y + s.top) * p.width + w + s.left) * LANES));
    }
}

// Call `body(c, lanes)` for all channels, in steps of as many lanes as there are.
template <typename Body>
inline void for_channels(long channels, Body body) {
  long c = 0;
  for (; c + LANES <= channels; c += LANES) body(c, std::integral_constant<long, LANES>());
  for (; c < channels; c += 8) body(c, std::integral_constant<long, 8>());
}

// Call `body(at, c, lanes)` for all values of an image's pixels; `at` is their place among all images.
template <typename Body>
inline void for_pixels(long image, long pixels, long channels, Body body) {
  for (long p = image * pixels; p < (image + 1) * pixels; p++)
    for_channels(channels, [=](long c, auto lanes) { body(p * channels + c, c, lanes); });
}

// What an activation lets through: 0 everything, 1 what is in 0..6 (ReLU6), 2 what is over 0 (ReLU).
inline float ceiling(long activation) { return activation == 2 ? INFINITY : 6.0f; }

// Two sums over all pixels for each channel, of what `terms` gives for a pixel.
template <typename Terms>
void sums(double* first, double* second, long pixels, long channels, Terms terms) {
  for (long c = 0; c < channels; c++) first[c] = second[c] = 0;
  float *one = scratch(2 * channels), *two = one + channels;
  for (long begin = 0; begin < pixels; begin += ROWS) {
    const long end = begin + ROWS < pixels ? begin + ROWS : pixels;
    memset(one, 0, 2 * channels * sizeof(float));
    for (long p = begin; p < end; p++)
      for_channels(channels, [=](long c, auto lanes) {
        constexpr long N = lanes;
        Floats<N> a, b;
        terms(p * channels + c, c, lanes, a, b);
        store<N>(one + c, load<N>(one + c) + a);
        store<N>(two + c, load<N>(two + c) + b);
      });
    for (long c = 0; c < channels; c++) {
      first[c] += one[c];
      second[c] += two[c];
    }
  }
}

}  // namespace

extern "C" {

void depthwise_weight_gradient(const Number* x, const Number* g, float* result, long images, long height, long width,
                               long out_height, long out_width, long channels, long kernel, long stride, long top,
                               long left) {
  const Shape s{images, height, width, out_height, out_width, channels, top, left};
  const auto of = kernel == 3 ? (stride == 1 ? weight_gradient<3, 1> : weight_gradient<3, 2>)
                              : (stride == 1 ? weight_gradient<5, 1> : weight_gradient<5, 2>);
  of(x, g, result, s);
}

void depthwise_input_gradient(const Number* g, const float* weight, Number* result, long images, long height,
                              long width, long out_height, long out_width, long channels, long kernel, long stride,
                              long top, long left) {
  const Shape s{images, height, width, out_height, out_width, channels, top, left};
  const auto of = kernel == 3 ? (stride == 1 ? input_gradient<3, 1> : input_gradient<3, 2>)
                              : (stride == 1 ? input_gradient<5, 1> : input_gradient<5, 2>);
  of(g, weight, result, s);
}

// Sums of x and of its squares.
void norm_sums(const Number* x, double* sum, double* squares, long pixels, long channels) {
  sums(sum, squares, pixels, channels, [=](long at, long, auto lanes, auto& a, auto& b) {
    a = load<lanes>(x + at);
    b = a * a;
  });
}

// result = activation(x * scale + offset)
void norm_apply(const Number* x, const float* scale, const float* offset, Number* result, long pixels, long channels,
                long activation) {
  const float top = ceiling(activation);
  for (long p = 0; p < pixels; p++)
    for_channels(channels, [=](long c, auto lanes) {
      constexpr long N = lanes;
      Floats<N> value = load<N>(x + p * channels + c) * load<N>(scale + c) + load<N>(offset + c);
      if (activation) {
        value = value > 0 ? value : 0;
        value = value < top ? value : top;
      }
      store<N>(result + p * channels + c, value);
    });
}

// Sums of the gradient that comes through the activation, and of its product with x.
void norm_gradient_sums(const Number* x, const Number* g, const float* scale, const float* offset, double* sum,
                        double* products, long pixels, long channels, long activation) {
  const float top = ceiling(activation);
  sums(sum, products, pixels, channels, [=](long at, long c, auto lanes, auto& a, auto& b) {
    constexpr long N = lanes;
    const auto given = load<N>(x + at);
    a = load<N>(g + at);
    if (activation) {
      const Floats<N> value = given * load<N>(scale + c) + load<N>(offset + c);
      a = value > 0 && value < top ? a : 0;
    }
    b = given * a;
  });
}

// result = scale * gradient + slope * x + constant
void norm_gradient(const Number* x, const Number* g, const float* scale, const float* offset, const float* slope,
                   const float* constant, Number* result, long pixels, long channels, long activation) {
  const float top = ceiling(activation);
  for (long p = 0; p < pixels; p++)
    for_channels(channels, [=](long c, auto lanes) {
      constexpr long N = lanes;
      const auto given = load<N>(x + p * channels + c), factor = load<N>(scale + c);
      auto gradient = load<N>(g + p * channels + c);
      if (activation) {
        const Floats<N> value = given * factor + load<N>(offset + c);
        gradient = value > 0 && value < top ? gradient : 0;
      }
      store<N>(result + p * channels + c, factor * gradient + load<N>(slope + c) * given + load<N>(constant + c));
    });
}

// Means of each image's channels, of shape (images, channels).
void image_means(const Number* x, float* means, long images, long pixels, long channels) {
  memset(means, 0, images * channels * sizeof(float));
  for (long n = 0; n < images; n++) {
    float* mean = means + n * channels;
    for_pixels(n, pixels, channels, [=](long at, long c, auto lanes) {
      constexpr long N = lanes;
      store<N>(mean + c, load<N>(mean + c) + load<N>(x + at));
    });
    for (long c = 0; c < channels; c++) mean[c] /= pixels;
  }
}

// result = ReLU(x + y * gate); a gate is one of each image's channels.
void gate_apply(const Number* x, const Number* y, const float* gate, Number* result, long images, long pixels,
                long channels) {
  for (long n = 0; n < images; n++)
    for_pixels(n, pixels, channels, [=](long at, long c, auto lanes) {
      constexpr long N = lanes;
      const Floats<N> value = load<N>(x + at) + load<N>(y + at) * load<N>(gate + n * channels + c);
      store<N>(result + at, value > 0 ? value : 0);
    });
}

// The gradient of each gate: the sum of the gradient that comes through the ReLU, times y.
void gate_gradient_sums(const Number* result, const Number* g, const Number* y, float* of_gate, long images,
                        long pixels, long channels) {
  memset(of_gate, 0, images * channels * sizeof(float));
  for (long n = 0; n < images; n++) {
    float* total = of_gate + n * channels;
    for_pixels(n, pixels, channels, [=](long at, long c, auto lanes) {
      constexpr long N = lanes;
      const Floats<N> through = load<N>(result + at) > 0 ? load<N>(g + at) : 0;
      store<N>(total + c, load<N>(total + c) + through * load<N>(y + at));
    });
  }
}

// Gradients of x and y; `constant` is what each pixel of an image's channel adds to the latter.
void gate_gradient(const Number* result, const Number* g, const float* gate, const float* constant, Number* of_x,
                   Number* of_y, long images, long pixels, long channels) {
  for (long n = 0; n < images; n++)
    for_pixels(n, pixels, channels, [=](long at, long c, auto lanes) {
      constexpr long N = lanes;
      const Floats<N> through = load<N>(result + at) > 0 ? load<N>(g + at) : 0;
      store<N>(of_x + at, through);
      store<N>(of_y + at, through * load<N>(gate + n * channels + c) + load<N>(constant + n * channels + c));
    });
}

}  // extern "C"
