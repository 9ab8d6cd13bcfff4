// Factors as bytes, then what a rank computes from them: P orthonormalised, Q, and P Q^T.
//
// Input: bytes 0 to 2 rows, columns and rank, byte 3 the type on the wire (modulo 9: 0 fp32, 1
// bf16, else bits), then P and Q.

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
  Level level{.method = Method::low_rank, .parameter = static_cast<double>(rank), .min_ratio = 1};
  const std::uint8_t type = input.take<std::uint8_t>() % 9;
  if (type == 1) level.factors = DType::bf16;
  if (type > 1) level.factor_bits = type;
  const auto low_rank = linear_compressor(level);

  std::vector<float> p(low_rank->round_floats(shape, 0)), q(low_rank->round_floats(shape, 1));
  const auto of_p = factor_codec(level, shape, 0), of_q = factor_codec(level, shape, 1);
  const std::size_t p_bytes = of_p->payload_bytes(p.size());
  const auto payload = input.rest(p_bytes + of_q->payload_bytes(q.size()));
  const auto bytes = std::span(payload);
  if (!of_p->decode_add(bytes.first(p_bytes), p).is_ok()) return 0;
  if (!of_q->decode_add(bytes.subspan(p_bytes), q).is_ok()) return 0;

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
