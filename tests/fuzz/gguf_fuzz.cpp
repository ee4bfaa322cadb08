// Any bytes as a GGUF file: parse, then touch every metadata value, every array element and both
// ends of every tensor.

// links: gguf

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "gguf/gguf.h"

namespace {

uint64_t touch(const ponder::gguf::ArrayView& array) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < array.size(); ++i) {
    if (const auto s = array.string_at(i)) {
      for (const char c : *s) sum += uint8_t(c);
    }
    sum += uint64_t(array.int_at(i).value_or(0));
    sum += array.number_at(i).value_or(0) > 0;
  }
  return sum + array.raw().size();
}

uint64_t touch(const ponder::gguf::File& file) {
  uint64_t sum = 0;
  for (const auto& kv : file.metadata()) {
    if (file.find(kv.key) != &kv) std::abort();
    if (const auto* a = std::get_if<ponder::gguf::ArrayView>(&kv.value)) sum += touch(*a);
    if (const auto s = file.get_string(kv.key)) {
      for (const char c : *s) sum += uint8_t(c);
    }
    sum += file.get_u64(kv.key).value_or(0);
    sum += file.get_f64(kv.key).value_or(0) > 0;
    sum += file.get_bool(kv.key).value_or(false);
    sum += file.require_u64(kv.key, 1, 100).ok() + file.require_f64(kv.key).ok();
    sum += file.require_string(kv.key).ok();
  }
  for (const auto& t : file.tensors()) {
    if (file.find_tensor(t.name) != &t || t.n_elements() == 0) std::abort();
    sum += t.rows() + t.columns();
    if (!t.data.empty()) sum += t.data.front() + t.data.back();
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  volatile uint64_t sink = 0;
  for (const bool metadata_only : {false, true}) {
    auto file = ponder::gguf::File::parse({data, size}, nullptr, "fuzz", {.metadata_only = metadata_only});
    if (file.ok()) {
      sink = sink + touch(**file);
    } else if (file.error().message.size() > 4096) {
      std::abort();  // a message must never echo the file
    }
  }
  return 0;
}
