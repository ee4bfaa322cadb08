// The registry. CMake writes quant_formats.inc from the files in formats/, one PONDER_FORMAT(stem)
// per file, and each of those files defines `format_<stem>`; so a new format is a new file and no
// edit here.
#include <algorithm>
#include <cctype>
#include <vector>

#include "quant/format.h"

namespace ponder::quant {

#define PONDER_FORMAT(stem) extern const Format format_##stem;
#include "quant_formats.inc"
#undef PONDER_FORMAT

namespace {

struct TypeName {
  uint32_t number;
  const char* name;
};

// Every type number that ggml has given out and still reads, for messages about files we cannot
// compute with.
constexpr TypeName kTypeNames[] = {
    {0, "F32"},      {1, "F16"},     {2, "Q4_0"},     {3, "Q4_1"},   {6, "Q5_0"},    {7, "Q5_1"},   {8, "Q8_0"},
    {9, "Q8_1"},     {10, "Q2_K"},   {11, "Q3_K"},    {12, "Q4_K"},  {13, "Q5_K"},   {14, "Q6_K"},  {15, "Q8_K"},
    {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},
    {23, "IQ4_XS"},  {24, "I8"},     {25, "I16"},     {26, "I32"},   {27, "I64"},    {28, "F64"},   {29, "IQ1_M"},
    {30, "BF16"},    {34, "TQ1_0"},  {35, "TQ2_0"},   {39, "MXFP4"}, {40, "NVFP4"},  {41, "Q1_0"},
};

bool same_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::toupper(static_cast<unsigned char>(x)) == std::toupper(static_cast<unsigned char>(y));
  });
}

}  // namespace

std::span<const Format* const> all_formats() {
  static const std::vector<const Format*> formats = [] {
    std::vector<const Format*> list = {
#define PONDER_FORMAT(stem) &format_##stem,
#include "quant_formats.inc"
#undef PONDER_FORMAT
    };
    std::sort(list.begin(), list.end(), [](const Format* a, const Format* b) { return a->type < b->type; });
    return list;
  }();
  return formats;
}

const Format* find_format(uint32_t type) {
  for (const Format* f : all_formats()) {
    if (uint32_t(f->type) == type) return f;
  }
  return nullptr;
}

const Format* find_format(std::string_view name) {
  for (const Format* f : all_formats()) {
    if (same_ignoring_case(f->name, name)) return f;
  }
  return nullptr;
}

std::string type_name(uint32_t type) {
  for (const TypeName& t : kTypeNames) {
    if (t.number == type) return t.name;
  }
  return "type " + std::to_string(type);
}

Error unsupported_type(std::string_view tensor, uint32_t type) {
  std::string supported;
  for (const Format* f : all_formats()) supported += (supported.empty() ? "" : ", ") + std::string(f->name);
  return Error{ErrorCode::unsupported, "tensor '" + std::string(tensor) + "': its weight format " + type_name(type) +
                                           " is not supported; supported are " + supported};
}

}  // namespace ponder::quant
