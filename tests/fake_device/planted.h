// Which mistake the adaptor of the tests makes.
#pragma once

namespace lgreco {

/// Whether it is this one, of mistakes.py.
bool is_planted(const char* mistake);

}  // namespace lgreco
