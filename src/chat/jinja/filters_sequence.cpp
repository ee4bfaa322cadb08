// Filters over lists and dicts. What Python gives lazily (map, select, ...) is a list here.
#include <algorithm>

#include "chat/jinja/filters.h"
#include "chat/jinja/strings.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {
namespace {

Result<Value> length(Context&, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  if (v.is_string()) return Value(int64_t(count_code_points(v.as_view())));
  if (v.is_list()) return Value(int64_t(v.as_list().items.size()));
  if (v.is_dict()) return Value(int64_t(v.as_dict().entries.size()));
  if (v.is_undefined()) return Value(int64_t(0));
  return bad_argument("a " + std::string(v.type_name()) + " has no length");
}

Result<Value> join_filter(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"d", "attribute"}));
  PONDER_TRY(const Value::Lists items, context.iterate(v));
  const Text separator = a[0] != nullptr ? to_text(*a[0]) : Text();
  if (a[1] == nullptr || a[1]->is_none()) return join(context, separator, items->items);
  std::vector<Value> values;
  for (const Value& item : items->items) {
    PONDER_TRY(Value value, lookup_path(context, item, *a[1]));
    values.push_back(std::move(value));
  }
  return join(context, separator, values);
}

Result<Value> first(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Value::Lists items, context.iterate(v));
  return items->items.empty() ? Value::undefined("the first item of an empty sequence is undefined")
                              : items->items.front();
}

Result<Value> last(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Value::Lists items, context.iterate(v));
  return items->items.empty() ? Value::undefined("the last item of an empty sequence is undefined")
                              : items->items.back();
}

Result<Value> list(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Value::Lists items, context.iterate(v));
  PONDER_CHECK_OK(context.charge_bytes(items->items.size() * sizeof(Value)));
  List copy;
  copy.items = items->items;
  return context.make(std::move(copy));
}

Result<Value> reverse(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  if (v.is_string()) return slice_text(context, v.as_text(), nullptr, nullptr, -1);
  PONDER_TRY(const Value::Lists items, context.iterate(v));
  PONDER_CHECK_OK(context.charge_bytes(items->items.size() * sizeof(Value)));
  List copy;
  copy.items.assign(items->items.rbegin(), items->items.rend());
  return context.make(std::move(copy));
}

Result<Value> items(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  if (v.is_undefined()) return Value(List{});
  if (!v.is_dict()) return bad_argument("needs a dict, not a " + std::string(v.type_name()));
  return call_method(context, v, "items", {});
}

// What sort, unique, min and max compare: strings without regard to case unless asked.
Result<Value> sort_key(Context& context, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key = item;
  if (attribute != nullptr && !attribute->is_none()) {
    if (attribute->is_string() && attribute->as_view().find(',') != std::string_view::npos) {
      List keys;
      const std::string_view all = attribute->as_view();
      for (size_t start = 0; start <= all.size();) {
        const size_t comma = std::min(all.find(',', start), all.size());
        const Value path = Value::literal(std::string(all.substr(start, comma - start)));
        PONDER_TRY(Value part, sort_key(context, item, &path, case_sensitive));
        keys.items.push_back(std::move(part));
        start = comma + 1;
      }
      return context.make(std::move(keys));
    }
    PONDER_TRY(key, lookup_path(context, item, *attribute));
  }
  if (!case_sensitive && key.is_string()) return context.make(change_case(key.as_text(), Case::lower));
  return key;
}

struct Keyed {
  Value key, value;
};

Result<std::vector<Keyed>> keyed(Context& context, const std::vector<Value>& items, const Value* attribute,
                                 bool case_sensitive) {
  PONDER_CHECK_OK(context.charge_bytes(items.size() * sizeof(Keyed)));
  std::vector<Keyed> result;
  for (const Value& item : items) {
    PONDER_CHECK_OK(context.charge_steps(1));
    PONDER_TRY(Value key, sort_key(context, item, attribute, case_sensitive));
    result.push_back({std::move(key), item});
  }
  return result;
}

Result<Value> sorted(Context& context, std::vector<Keyed> values, bool reverse) {
  Result<void> order;
  std::stable_sort(values.begin(), values.end(), [&](const Keyed& a, const Keyed& b) {
    if (!order) return false;
    if (const Result<void> budget = context.charge_steps(1 + std::min(weight_of(a.key), weight_of(b.key)) / 64);
        !budget) {
      order = budget.error();
      return false;
    }
    const Result<bool> r = reverse ? less(b.key, a.key) : less(a.key, b.key);
    if (!r) order = r.error();
    return r.ok() && *r;
  });
  PONDER_CHECK_OK(order);
  List out;
  for (Keyed& v : values) out.items.push_back(std::move(v.value));
  return context.make(std::move(out));
}

Result<Value> sort(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"reverse", "case_sensitive", "attribute"}));
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  PONDER_TRY(std::vector<Keyed> values, keyed(context, list->items, a[2], flag(a[1])));
  return sorted(context, std::move(values), flag(a[0]));
}

Result<Value> dictsort(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"case_sensitive", "by", "reverse"}));
  if (!v.is_dict()) return bad_argument("needs a dict, not a " + std::string(v.type_name()));
  const std::string by = a[1] != nullptr ? to_text(*a[1]).bytes() : "key";
  if (by != "key" && by != "value") return bad_argument("can sort by 'key' or by 'value'");
  PONDER_TRY(const Value pairs, call_method(context, v, "items", {}));
  const Value index = int64_t(by == "value");
  PONDER_TRY(std::vector<Keyed> values, keyed(context, pairs.as_list().items, &index, flag(a[0])));
  return sorted(context, std::move(values), flag(a[2]));
}

Result<Value> unique(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"case_sensitive", "attribute"}));
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  PONDER_TRY(const std::vector<Keyed> values, keyed(context, list->items, a[1], flag(a[0])));
  List out;
  Dict seen;
  for (const Keyed& k : values) {
    if (seen.find(k.key) != nullptr) continue;
    if (!seen.set(k.key, true)) return bad_argument("cannot compare values of type " + std::string(k.key.type_name()));
    out.items.push_back(k.value);
  }
  return context.make(std::move(out));
}

Result<Value> extreme(Context& context, const Value& v, const CallArgs& args, bool largest) {
  PONDER_TRY(const Bound a, bind(args, {"case_sensitive", "attribute"}));
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  PONDER_TRY(const std::vector<Keyed> values, keyed(context, list->items, a[1], flag(a[0])));
  if (values.empty()) return Value::undefined("no item, the sequence is empty");
  const Keyed* best = &values[0];
  for (const Keyed& k : values) {
    PONDER_TRY(const bool better, largest ? less(best->key, k.key) : less(k.key, best->key));
    if (better) best = &k;
  }
  return best->value;
}

Result<Value> min(Context& c, const Value& v, const CallArgs& a) { return extreme(c, v, a, false); }
Result<Value> max(Context& c, const Value& v, const CallArgs& a) { return extreme(c, v, a, true); }

Result<Value> sum(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"attribute", "start"}));
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  Value total = a[1] != nullptr ? *a[1] : Value(int64_t(0));
  for (const Value& item : list->items) {
    PONDER_CHECK_OK(context.charge_steps(1));
    Value x = item;
    if (a[0] != nullptr && !a[0]->is_none()) {
      PONDER_TRY(x, lookup_path(context, item, *a[0]));
    }
    PONDER_TRY(total, add(context, total, x));
  }
  return total;
}

// Anything false is an empty sequence to map and select, none too.
Result<Value> map(Context& context, const Value& v, const CallArgs& args) {
  if (!truthy(v)) return Value(List{});
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  PONDER_CHECK_OK(context.charge_bytes(list->items.size() * sizeof(Value)));
  List out;
  if (args.positional.empty()) {
    PONDER_TRY(const Bound a, bind(args, {"attribute", "default"}));
    if (a[0] == nullptr) return bad_argument("needs a filter's name or attribute=");
    for (const Value& item : list->items) {
      PONDER_TRY(Value value, lookup_path(context, item, *a[0], a[1]));
      out.items.push_back(std::move(value));
    }
    return context.make(std::move(out));
  }
  if (!args.positional[0].is_string()) return bad_argument("needs a filter's name");
  CallArgs rest = args;
  rest.positional.erase(rest.positional.begin());
  for (const Value& item : list->items) {
    PONDER_TRY(Value value, context.filter(args.positional[0].as_view(), item, rest));
    out.items.push_back(std::move(value));
  }
  return context.make(std::move(out));
}

Result<Value> choose(Context& context, const Value& v, const CallArgs& args, bool by_attribute, bool keep) {
  if (by_attribute && args.positional.empty()) return bad_argument("needs an attribute's name");
  const size_t skip = by_attribute ? 1 : 0;
  const bool has_test = args.positional.size() > skip;
  if (has_test && !args.positional[skip].is_string()) return bad_argument("needs a test's name");
  CallArgs rest;
  if (has_test) rest.positional.assign(args.positional.begin() + int64_t(skip) + 1, args.positional.end());
  rest.named = args.named;
  if (!truthy(v)) return Value(List{});
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  PONDER_CHECK_OK(context.charge_bytes(list->items.size() * sizeof(Value)));
  List out;
  for (const Value& item : list->items) {
    PONDER_CHECK_OK(context.charge_steps(1));
    Value subject = item;
    if (by_attribute) {
      PONDER_TRY(subject, lookup_path(context, item, args.positional[0]));
    }
    bool holds = truthy(subject);
    if (has_test) {
      PONDER_TRY(holds, context.test(args.positional[skip].as_view(), subject, rest));
    }
    if (holds == keep) out.items.push_back(item);
  }
  return context.make(std::move(out));
}

Result<Value> select(Context& c, const Value& v, const CallArgs& a) { return choose(c, v, a, false, true); }
Result<Value> reject(Context& c, const Value& v, const CallArgs& a) { return choose(c, v, a, false, false); }
Result<Value> selectattr(Context& c, const Value& v, const CallArgs& a) { return choose(c, v, a, true, true); }
Result<Value> rejectattr(Context& c, const Value& v, const CallArgs& a) { return choose(c, v, a, true, false); }

Result<Value> batch(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"linecount", "fill_with"}));
  PONDER_TRY(const int64_t n, int_or(a[0], 0, "linecount"));
  if (n <= 0) return bad_argument("needs a positive count");
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  List out, row;
  const auto flush = [&]() -> Result<void> {
    PONDER_TRY(Value value, context.make(std::exchange(row, List{})));
    out.items.push_back(std::move(value));
    return {};
  };
  for (const Value& item : list->items) {
    if (int64_t(row.items.size()) == n) PONDER_CHECK_OK(flush());
    row.items.push_back(item);
  }
  if (!row.items.empty()) {
    while (a[1] != nullptr && !a[1]->is_none() && int64_t(row.items.size()) < n) {
      PONDER_CHECK_OK(context.charge_bytes(sizeof(Value)));
      row.items.push_back(*a[1]);
    }
    PONDER_CHECK_OK(flush());
  }
  return context.make(std::move(out));
}

Result<Value> slice(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"slices", "fill_with"}));
  PONDER_TRY(const int64_t n, int_or(a[0], 0, "slices"));
  if (n <= 0) return bad_argument("needs a positive count");
  PONDER_TRY(const Value::Lists list, context.iterate(v));
  const auto& all = list->items;
  const size_t each = all.size() / size_t(n), extra = all.size() % size_t(n);
  List out;
  size_t at = 0;
  for (size_t i = 0; i < size_t(n); ++i) {
    const size_t take = each + (i < extra ? 1 : 0);
    List row;
    row.items.assign(all.begin() + int64_t(at), all.begin() + int64_t(at + take));
    at += take;
    if (a[1] != nullptr && !a[1]->is_none() && i >= extra) row.items.push_back(*a[1]);
    PONDER_TRY(Value value, context.make(std::move(row)));
    out.items.push_back(std::move(value));
  }
  return context.make(std::move(out));
}

Result<Value> groupby(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"attribute", "default", "case_sensitive"}));
  if (a[0] == nullptr) return bad_argument("needs an attribute");
  PONDER_TRY(const Value ordered,
             sort(context, v, CallArgs{{}, {{"attribute", *a[0]}, {"case_sensitive", flag(a[2])}}}));
  List out, group;
  Value group_key, group_name;
  const auto flush = [&]() -> Result<void> {
    PONDER_TRY(Value members, context.make(std::exchange(group, List{})));
    List pair;
    pair.is_tuple = true;
    pair.items = {group_name, std::move(members)};
    PONDER_TRY(Value value, context.make(std::move(pair)));
    out.items.push_back(std::move(value));
    return {};
  };
  for (const Value& item : ordered.as_list().items) {
    PONDER_TRY(const Value name, lookup_path(context, item, *a[0], a[1]));
    Value key = name;
    if (!flag(a[2]) && name.is_string()) key = Value(change_case(name.as_text(), Case::lower));
    if (!group.items.empty() && !equal(key, group_key)) PONDER_CHECK_OK(flush());
    if (group.items.empty()) {
      group_key = key;
      group_name = name;
    }
    group.items.push_back(item);
  }
  if (!group.items.empty()) PONDER_CHECK_OK(flush());
  return context.make(std::move(out));
}

constexpr FilterEntry kFilters[] = {{"length", length},
                                    {"count", length},
                                    {"join", join_filter},
                                    {"first", first},
                                    {"last", last},
                                    {"list", list},
                                    {"reverse", reverse},
                                    {"items", items},
                                    {"sort", sort},
                                    {"dictsort", dictsort},
                                    {"unique", unique},
                                    {"min", min},
                                    {"max", max},
                                    {"sum", sum},
                                    {"map", map},
                                    {"select", select},
                                    {"reject", reject},
                                    {"selectattr", selectattr},
                                    {"rejectattr", rejectattr},
                                    {"batch", batch},
                                    {"slice", slice},
                                    {"groupby", groupby}};

}  // namespace

std::span<const FilterEntry> sequence_filters() { return kFilters; }

}  // namespace ponder::chat::jinja
