// The functions a template finds without having been given them: Jinja2's globals and the two that
// transformers adds.
#include <ctime>

#include "chat/jinja/context.h"

namespace ponder::chat::jinja {
namespace {

using Bound = std::vector<const Value*>;

Result<Dict> dict_from(const CallArgs& args, std::string_view what) {
  Dict dict;
  if (args.positional.size() > 1) return bad_argument(std::string(what) + "() takes one dict and named values");
  if (!args.positional.empty()) {
    const Value& first = args.positional[0];
    if (first.is_dict()) {
      dict = first.as_dict();
    } else if (first.is_list()) {  // pairs
      for (const Value& pair : first.as_list().items) {
        if (!pair.is_list() || pair.as_list().items.size() != 2 ||
            !dict.set(pair.as_list().items[0], pair.as_list().items[1])) {
          return bad_argument(std::string(what) + "() needs a dict or a list of pairs");
        }
      }
    } else {
      return bad_argument(std::string(what) + "() needs a dict or a list of pairs");
    }
  }
  for (const auto& [name, value] : args.named) dict.put(name, value);
  return dict;
}

Result<Value> make_namespace(Context& context, const CallArgs& args) {
  PONDER_TRY(const Dict dict, dict_from(args, "namespace"));
  PONDER_CHECK_OK(context.charge_bytes(128 + dict.entries.size() * 64));
  auto object = std::make_unique<Namespace>();
  for (const Dict::Entry& e : dict.entries) object->values.emplace_back(to_text(e.key).bytes(), e.value);
  return Value(context.keep(std::move(object)));
}

Result<Value> make_dict(Context& context, const CallArgs& args) {
  PONDER_TRY(Dict dict, dict_from(args, "dict"));
  return context.make(std::move(dict));
}

Result<Value> range(Context& context, const CallArgs& args) {
  constexpr int64_t kMaxRange = 100'000;  // the sandbox's own limit
  if (args.positional.empty() || args.positional.size() > 3 || !args.named.empty())
    return bad_argument("range() takes one to three numbers");
  int64_t n[3] = {0, 0, 1};
  for (size_t i = 0; i < args.positional.size(); ++i) {
    PONDER_TRY(n[i], to_int(args.positional[i], "range()'s argument"));
  }
  if (args.positional.size() == 1) std::swap(n[0], n[1]);
  const int64_t step = n[2];
  if (step == 0) return bad_argument("range() cannot step by 0");
  List list;
  for (int64_t i = n[0]; step > 0 ? i < n[1] : i > n[1];) {
    if (int64_t(list.items.size()) >= kMaxRange)
      return Error{ErrorCode::out_of_range, "range() is limited to 100000 numbers"};
    list.items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return context.make(std::move(list));
}

Result<Value> raise_exception(Context&, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"message"}));
  const std::string message = a[0] != nullptr ? to_text(*a[0]).bytes() : "no reason given";
  return bad_argument("the model's chat template refuses this conversation: " + message);
}

// The time zone is UTC, so that a prompt does not depend on the machine.
Result<Value> strftime_now(Context& context, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"format"}));
  if (a[0] == nullptr || !a[0]->is_string()) return bad_argument("strftime_now() needs a format");
  const Text& format = a[0]->as_text();
  if (format.size() > 1000) return bad_argument("strftime_now(): the format is too long");
  const std::time_t now = std::time_t(context.now());
  std::tm parts{};
  if (gmtime_r(&now, &parts) == nullptr) return bad_argument("strftime_now(): the date is out of range");
  TextBuilder out(context);
  const std::string_view f = format.view();
  static constexpr std::string_view kKnown = "aAbBcdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%";
  for (size_t i = 0; i < f.size();) {
    if (f[i] != '%' || i + 1 >= f.size()) {
      PONDER_CHECK_OK(out.append(format, i, i + 1));
      ++i;
      continue;
    }
    size_t length = 2;
    if (f[i + 1] == '-' && i + 2 < f.size()) length = 3;  // %-d: no leading zero
    const char letter = f[i + length - 1];
    if (letter == 'f') {
      PONDER_CHECK_OK(out.append("000000", Origin::template_text));
    } else if (kKnown.find(letter) == kKnown.npos) {
      PONDER_CHECK_OK(out.append(format, i, i + length));
    } else {
      char buffer[128];
      const std::string directive(f.substr(i, length));
      const size_t n = std::strftime(buffer, sizeof buffer, directive.c_str(), &parts);
      std::string_view text(buffer, n);
      if (letter == 'z' || letter == 'Z') text = {};  // Python's naive datetime has no zone
      PONDER_CHECK_OK(out.append(text, Origin::template_text));
    }
    i += length;
  }
  return out.take();
}

Result<Value> cycler(Context& context, const CallArgs& args) {
  if (args.positional.empty() || !args.named.empty()) return bad_argument("cycler() needs at least one value");
  PONDER_CHECK_OK(context.charge_bytes(64 + args.positional.size() * sizeof(Value)));
  auto object = std::make_unique<Cycler>();
  object->items = args.positional;
  return Value(context.keep(std::move(object)));
}

Result<Value> joiner(Context& context, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"sep"}));
  PONDER_CHECK_OK(context.charge_bytes(64));
  auto object = std::make_unique<Joiner>();
  object->separator = a[0] != nullptr ? *a[0] : Value::literal(", ");
  return Value(context.keep(std::move(object)));
}

constexpr std::pair<std::string_view, Function::Body> kFunctions[] = {
    {"namespace", make_namespace},  {"dict", make_dict}, {"range", range},  {"raise_exception", raise_exception},
    {"strftime_now", strftime_now}, {"cycler", cycler},  {"joiner", joiner}};

}  // namespace

Function::Body find_function(std::string_view name) {
  for (const auto& [known, body] : kFunctions) {
    if (known == name) return body;
  }
  return nullptr;
}

}  // namespace ponder::chat::jinja
