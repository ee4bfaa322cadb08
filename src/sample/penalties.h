// What changes logits before anything is chosen: bias, penalties for repetition, the mask.
#pragma once

#include <limits>
#include <span>

#include "base/device_code.h"
#include "sample/sample.h"

namespace ponder::sample {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

/// A logit as the filters see it: NaN never wins, infinity counts as the largest float.
PONDER_HOST_DEVICE inline float seen_logit(float x) {
  const float bounded = x < kLargest ? x : kLargest;  // NaN becomes the largest here ...
  return x == x ? bounded : kForbidden;               // ... and is forbidden here
}

/// One entry of logit_bias on a seen logit.
PONDER_HOST_DEVICE inline float with_bias(float x, float bias) {
  return bias <= -100.f ? kForbidden : seen_logit(x + bias);
}

/// The penalties on a seen logit of a token that stands `count` times in the window.
PONDER_HOST_DEVICE inline float with_penalties(float x, float count, float repeat, float frequency, float presence) {
  if (x == kForbidden) return x;
  x = x > 0.f ? x / repeat : x * repeat;
  x -= count * frequency + presence;
  return x < kLargest ? x : kLargest;
}

/// True if the request's logits differ from the model's.
bool changes_logits(const Request& request);

/// `out[i]` = the logit the filters see: + bias, then the penalties, then -inf where the mask
/// forbids; +inf becomes the largest float and NaN -inf. `counts` has one float per token, and is
/// working memory.
void apply(std::span<const float> logits, const Request& request, std::span<float> out, std::span<float> counts);

}  // namespace ponder::sample
