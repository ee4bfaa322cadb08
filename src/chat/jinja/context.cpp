// Budgets of containers and strings, and the binding of arguments to parameters.
#include "chat/jinja/context.h"

#include <cmath>

namespace ponder::chat::jinja {
namespace {

constexpr uint64_t kMaxWeight = uint64_t(64) << 20;

Result<Value> checked(Context& context, Value value, uint64_t bytes) {
  PONDER_CHECK_OK(context.charge_bytes(bytes));
  if (depth_of(value) > kMaxNesting) return Error{ErrorCode::out_of_range, "a value is nested too deep"};
  if (weight_of(value) > kMaxWeight) return Error{ErrorCode::out_of_range, "a value grows too large"};
  return value;
}

}  // namespace

Error bad_argument(std::string message) { return Error{ErrorCode::invalid_argument, std::move(message)}; }

Result<Value> Context::make(List list) {
  const uint64_t bytes = 32 + list.items.size() * sizeof(Value);
  return checked(*this, Value(std::move(list)), bytes);
}

Result<Value> Context::make(Dict dict) {
  const uint64_t bytes = 64 + dict.entries.size() * 4 * sizeof(Value);
  return checked(*this, Value(std::move(dict)), bytes);
}

Result<Value> Context::make(Text text) {
  PONDER_CHECK_OK(charge_bytes(text.cost()));
  return Value(std::move(text));
}

Result<void> TextBuilder::append(std::string_view bytes, Origin origin) {
  PONDER_CHECK_OK(context_.charge_bytes(bytes.size()));
  text_.append(bytes, origin);
  return {};
}

Result<void> TextBuilder::append(const Text& text, size_t begin, size_t end) {
  if (begin >= end) return {};
  PONDER_CHECK_OK(context_.charge_bytes(end - begin == text.size() ? text.cost() : (end - begin) * 2));
  text_.append(text, begin, end);
  return {};
}

Result<void> TextBuilder::repeat(const Text& text, uint64_t count) {
  if (text.empty()) return {};
  // Asked for in advance, so that a count of billions is refused at once.
  PONDER_CHECK_OK(context_.charge_bytes(count > UINT32_MAX ? UINT64_MAX : count * text.cost()));
  for (uint64_t i = 0; i < count; ++i) text_.append(text);
  return {};
}

Result<std::vector<const Value*>> bind(const CallArgs& args, std::initializer_list<std::string_view> parameters) {
  std::vector<const Value*> result(parameters.size(), nullptr);
  if (args.positional.size() > parameters.size()) {
    return bad_argument("takes at most " + std::to_string(parameters.size()) + " argument(s), got " +
                        std::to_string(args.positional.size()));
  }
  for (size_t i = 0; i < args.positional.size(); ++i) result[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    size_t i = 0;
    while (i < parameters.size() && parameters.begin()[i] != name) ++i;
    if (i == parameters.size()) return bad_argument("has no argument named '" + name + "'");
    if (result[i] != nullptr) return bad_argument("the argument '" + name + "' is given twice");
    result[i] = &value;
  }
  return result;
}

Result<int64_t> to_int(const Value& value, std::string_view what) {
  if (value.is_integral()) return value.as_int();
  if (value.is_undefined()) return bad_argument(value.undefined_message());
  return bad_argument(std::string(what) + " must be a whole number, not " + std::string(value.type_name()));
}

Result<Text> text_of(Context& context, const Value& value) {
  if (value.is_string()) return value.as_text();
  Text text = to_text(value);
  PONDER_CHECK_OK(context.charge_bytes(text.cost()));
  return text;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : values) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace ponder::chat::jinja
