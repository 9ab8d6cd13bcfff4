// Factors as bytes, then what a rank computes from them: P orthonormalised, Q, and P Q^T.
//
// Input: bytes 0 to 2 rows, columns and rank, byte 3 the type on the wire, then P and Q.

#include "src/kernels/low_rank.h"
#include "lgreco/compressor.h"
#include "tests/fuzz/fuzz_input.h"

using namespace lgreco;

namespace {

void require_orthonormal(std::span<const float> p, std::size_t rows, std::size_t rank) {
  for (std::size_t a = 0; a < rank; ++a) {
    for (std::size_t b = 0; b <= a; ++b) {
      double dot = 0;
      for (std::size_t i = 0; i < rows; ++i) dot += double{p[a * rows + i]} * p[b * rows + i];
      const bool is_zero = dot == 0;
      fuzz::require(is_zero || std::abs(dot - (a == b ? 1 : 0)) < 1e-5,
                    "columns are orthonormal or zero");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const MatrixShape shape{1 + input.take<std::uint8_t>() % std::size_t{24},
                          1 + input.take<std::uint8_t>() % std::size_t{24}};
  const std::size_t rank =
      1 + input.take<std::uint8_t>() % std::min<std::size_t>({shape.rows, shape.cols, 5});
  const bool is_half = input.take<std::uint8_t>() % 2 == 1;
  const auto codec = coded_compressor(is_half ? Level{.method = Method::cast} : Level{});
  const auto low_rank = linear_compressor(
      {.method = Method::low_rank, .parameter = static_cast<double>(rank), .min_ratio = 1});

  std::vector<float> p(low_rank->round_floats(shape, 0)), q(low_rank->round_floats(shape, 1));
  std::vector<float> both(p.size() + q.size());
  const auto payload = input.rest(codec->payload_bytes(both.size()));
  if (!codec->decode_add(payload, both).is_ok()) return 0;
  std::copy_n(both.begin(), p.size(), p.begin());
  std::copy(both.begin() + static_cast<std::ptrdiff_t>(p.size()), both.end(), q.begin());

  kernels::orthonormalize(p.data(), shape.rows, rank);
  fuzz::require(fuzz::all_finite(p), "orthonormal columns are finite");
  require_orthonormal(p, shape.rows, rank);

  const std::span<float> means[] = {p, q};
  std::vector<float> values(shape.count());
  low_rank->decode(shape, {}, means, values);
  fuzz::require(low_rank->result_bound(means) > 3.4028234e38 || fuzz::all_finite(values),
                "a layer is finite when its bound is");

  LinearState state;
  low_rank->prepare(shape, {}, state);
  low_rank->commit(shape, {}, means, state);
  fuzz::require(fuzz::all_finite(state.factor), "the warm factor is finite");
  return 0;
}
