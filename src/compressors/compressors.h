// The rows of the library's own methods, each defined in the file of its method.
#pragma once

#include "lgreco/method.h"

namespace lgreco {

extern const MethodEntry kDense;
extern const MethodEntry kCast;
extern const MethodEntry kQuantize;
extern const MethodEntry kTopK;
extern const MethodEntry kLowRank;
extern const MethodEntry kEntropy;

}  // namespace lgreco
