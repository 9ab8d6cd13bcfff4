// One visitor made of lambdas, for std::visit.
#pragma once

namespace lgreco {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace lgreco
