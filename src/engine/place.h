// A rank and how many there are.
#pragma once

namespace lgreco {

struct Place {
  int rank = 0;
  int ranks = 1;
};

}  // namespace lgreco
