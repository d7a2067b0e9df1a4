// What every part of the shim shares: how errors and tensors cross to Rust.
//
// A function of the shim returns null, or the text of what went wrong, to be freed with `reins_free_text`. No C++
// exception crosses. A tensor is passed as a pointer to an `at::Tensor` that the caller keeps; a tensor that is given
// out is a new heap object that the caller owns, as torch-sys does it.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <cstring>
#include <exception>
#include <vector>

namespace reins {

inline char* text(const char* message) { return strdup(message == nullptr ? "unknown error" : message); }

// Runs `body`; turns whatever it throws into text.
template <typename Body>
char* guard(Body&& body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return text(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return text(error.what());
  } catch (...) {
    return text("an exception that is not a std::exception");
  }
}

// Tensors behind `count` pointers; a null pointer becomes an undefined tensor.
inline std::vector<at::Tensor> tensors(at::Tensor* const* pointers, int64_t count) {
  std::vector<at::Tensor> list;
  list.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    list.push_back(pointers[i] == nullptr ? at::Tensor() : *pointers[i]);
  }
  return list;
}

// Gives `tensor` out; an undefined tensor becomes a null pointer.
inline at::Tensor* give(at::Tensor tensor) {
  return tensor.defined() ? new at::Tensor(std::move(tensor)) : nullptr;
}

}  // namespace reins
