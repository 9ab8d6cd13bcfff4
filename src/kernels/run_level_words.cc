#include "src/kernels/run_level_words.h"

#include "src/kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/kernels/run_level_words.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lgreco::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Words(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
           std::uint32_t* words) {
  const hn::ScalableTag<std::uint32_t> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto one = hn::Set(di, 1);
  const auto none = hn::Set(di, kQuickRuns * kQuickMagnitudes);
  std::size_t i = 1;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto token = hn::LoadU(d, tokens + i);
    const auto before = hn::LoadU(d, tokens + i - 1);
    const auto distance = hn::Sub(hn::ShiftRight<16>(token), hn::ShiftRight<16>(before));
    const auto run = hn::Sub(hn::BitCast(di, distance), one);
    const auto level = hn::ShiftRight<16>(hn::BitCast(di, hn::ShiftLeft<16>(token)));
    const auto magnitude = hn::Sub(hn::Abs(level), one);
    const auto is_quick = hn::And(hn::Lt(run, hn::Set(di, kQuickRuns)),
                                  hn::Lt(magnitude, hn::Set(di, kQuickMagnitudes)));
    const auto index = hn::Add(hn::Mul(run, hn::Set(di, kQuickMagnitudes)), magnitude);
    const auto entry = hn::GatherIndex(d, &quick[0], hn::IfThenElse(is_quick, index, none));
    const auto length = hn::And(entry, hn::Set(d, 0xFFu));
    const auto negative = hn::ShiftRight<31>(hn::BitCast(d, level));
    const auto sign = hn::Shl(hn::ShiftLeft<8>(negative), length);
    const auto word = hn::Add(hn::Or(entry, sign), hn::Set(d, 1u));
    hn::StoreU(hn::IfThenZeroElse(hn::Eq(entry, hn::Zero(d)), word), d, words + i);
  }
  for (; i < count; ++i) {
    const std::uint32_t run = (tokens[i] >> 16) - (tokens[i - 1] >> 16) - 1;
    words[i] = quick_word(run, static_cast<std::int16_t>(tokens[i]), quick);
  }
}

}  // namespace lgreco::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lgreco::kernels {

HWY_EXPORT(Words);

void quick_words(const std::uint32_t* tokens, std::size_t count, const QuickWords& quick,
                 std::uint32_t* words) {
  HWY_DYNAMIC_DISPATCH(Words)(tokens, count, quick, words);
}

}  // namespace lgreco::kernels
#endif  // HWY_ONCE
