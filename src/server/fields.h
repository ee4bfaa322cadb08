// Reading fields of a request's JSON object with errors that name the field.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "runtime/json_errors.h"

namespace ponder::server {

/// Absent and null are the same.
inline const nlohmann::ordered_json* field(const nlohmann::ordered_json& body, const char* name) {
  const auto it = body.find(name);
  return it == body.end() || it->is_null() ? nullptr : &*it;
}

using runtime::shown;

inline Error wrong_field(const char* name, const char* expected, const nlohmann::ordered_json& found) {
  return {ErrorCode::invalid_argument,
          std::string("\"") + name + "\" must be " + expected + ", not " + found.type_name()};
}

inline Result<std::string> string_field(const nlohmann::ordered_json& body, const char* name,
                                        std::string fallback = {}) {
  const auto* v = field(body, name);
  if (v == nullptr) return fallback;
  if (!v->is_string()) return wrong_field(name, "a string", *v);
  return v->get<std::string>();
}

inline Result<bool> bool_field(const nlohmann::ordered_json& body, const char* name, bool fallback) {
  const auto* v = field(body, name);
  if (v == nullptr) return fallback;
  if (!v->is_boolean()) return wrong_field(name, "true or false", *v);
  return v->get<bool>();
}

inline Result<int> int_field(const nlohmann::ordered_json& body, const char* name, int fallback, int low, int high) {
  const auto* v = field(body, name);
  if (v == nullptr) return fallback;
  if (!v->is_number()) return wrong_field(name, "a whole number", *v);
  const double d = v->get<double>();
  if (!(d >= low && d <= high) || d != double(int(d)))
    return Error{ErrorCode::invalid_argument, std::string("\"") + name + "\" is " + shown(*v) +
                                                  "; it must be a whole number between " + std::to_string(low) +
                                                  " and " + std::to_string(high)};
  return int(d);
}

/// "model": required, not empty.
inline Result<std::string> model_field(const nlohmann::ordered_json& body) {
  PONDER_TRY(std::string model, string_field(body, "model"));
  if (model.empty()) {
    PONDER_TRY(model, string_field(body, "name"));  // older clients of Ollama
  }
  if (model.empty()) return Error{ErrorCode::invalid_argument, "model is required"};
  return model;
}

/// A field of Ponder's own: at the top level, or inside `options`, which is where a client with fixed fields (Ollama's
/// Python one) can put it.
inline const nlohmann::ordered_json* extra_field(const nlohmann::ordered_json& body, const char* name) {
  if (const auto* v = field(body, name)) return v;
  const auto* options = field(body, "options");
  return options != nullptr && options->is_object() ? field(*options, name) : nullptr;
}

inline Result<bool> extra_bool(const nlohmann::ordered_json& body, const char* name, bool fallback) {
  const auto* v = extra_field(body, name);
  if (v == nullptr) return fallback;
  if (!v->is_boolean()) return wrong_field(name, "true or false", *v);
  return v->get<bool>();
}

/// "request_id": the client's own name for its request, under which it can steer it.
inline Result<std::string> request_id_field(const nlohmann::ordered_json& body) {
  const auto* v = extra_field(body, "request_id");
  if (v == nullptr) return std::string();
  if (!v->is_string()) return wrong_field("request_id", "a string", *v);
  const auto& id = v->get_ref<const std::string&>();
  const bool plain = id.size() <= 64 && id.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789-_.") == std::string::npos;
  if (id.empty() || !plain)
    return Error{ErrorCode::invalid_argument,
                 "\"request_id\" must be 1 to 64 letters, digits, dashes, dots or underscores, not " + shown(*v)};
  return id;
}

}  // namespace ponder::server
