// Errors of a hook, which reach Python through autograd.
#pragma once

#include <exception>
#include <functional>

namespace lgreco {

/// A function that turns an error of the library into one that autograd raises with its type in
/// lgreco.errors. REQUIRES: the GIL here; the function needs none.
std::function<std::exception_ptr(std::exception_ptr)> autograd_translator();

}  // namespace lgreco
