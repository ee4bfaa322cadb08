// Any bytes as a model: keys and tensors checked against each other, and whatever passes must also run. A file may hold
// any weights, infinities and NaNs included; the results are then worthless, but nothing may crash.

// links: backend/reference

#include <cstdint>
#include <cstdlib>

#include "backend/reference/reference.h"
#include "backend/testing.h"

namespace {

using namespace ponder;
using namespace ponder::backend;

void run(std::shared_ptr<const model::Model> model) {
  const model::ModelSpec& spec = model->spec;
  if (spec.linear_macs() > 1'000'000 || spec.layers[0].kv_size() * spec.n_layers > 10'000) return;
  PlanOptions options;
  options.threads = 1;
  options.kv_tokens = 64;
  options.max_batch_rows = 4;
  options.max_output_rows = 4;
  auto plan = reference::make_backend()->compile(model, options);
  if (!plan.ok() || !(*plan)->load({}, nullptr).ok()) std::abort();
  const TokenId last = TokenId(spec.vocab_size - 1);
  const auto result = testing::run_window(**plan, std::vector<TokenId>{0, last, last / 2}, {}, 2,
                                          [&](int, std::span<const float> logits) {
                                            if (logits.size() != size_t(spec.vocab_size)) std::abort();
                                          });
  if (!result.ok()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const bool metadata_only : {false, true}) {
    auto file = gguf::File::parse({data, size}, nullptr, "fuzz", {.metadata_only = metadata_only});
    if (!file.ok()) continue;
    (void)model::quantization_name(**file);
    const auto spec = model::read_spec(**file);
    const auto model = model::Model::load(*file);
    if (!spec.ok() && (model.ok() || spec.error().message.size() > 4096)) std::abort();
    if (spec.ok()) (void)model::parameter_size(spec->n_parameters);
    if (model.ok()) run(*model);
  }
  return 0;
}
