// What changes logits before anything is chosen: bias, penalties for repetition, the mask.
#pragma once

#include <span>
#include <vector>

#include "sample/sample.h"

namespace ponder::sample {

/// True if the request's logits differ from the model's.
bool changes_logits(const Request& request);

/// `out[i]` = the logit the filters see: + bias, then the penalties, then -inf where the mask
/// forbids; +inf becomes the largest float and NaN -inf. `counts` has one float per token, and is
/// working memory.
void apply(std::span<const float> logits, const Request& request, std::span<float> out, std::span<float> counts);

}  // namespace ponder::sample
