// How far a candidate's logits are from the judge's: the figures of every accuracy gate.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "backend/testing.h"
#include "sample/sample.h"

namespace ponder::backend::testing {

struct Figures {
  double kl_trimmed = 0;  ///< mean KL(reference || candidate) without the worst 1 % of tokens
  double kl_mean = 0;
  double relative_l2 = 0;  ///< of centred logits, all tokens together
  double top1 = 0;         ///< share of tokens with the same most likely token
};

/// Collects a candidate's logits against the reference's, token by token.
class Comparison {
 public:
  void add(std::span<const float> reference, std::span<const float> candidate) {
    const double zr = sample::log_normalizer(reference), zc = sample::log_normalizer(candidate);
    double kl = 0;
    for (size_t i = 0; i < reference.size(); ++i) {
      const double p = reference[i] - zr, q = candidate[i] - zc;
      kl += std::exp(p) * (p - q);
    }
    kl_.push_back(kl);
    same_ += argmax(reference) == argmax(candidate);
    l2_.add(candidate, reference);
  }

  Figures figures() const {
    Figures f;
    std::vector<double> sorted = kl_;
    std::sort(sorted.begin(), sorted.end());
    const size_t kept = size_t(double(sorted.size()) * 0.99);
    for (size_t i = 0; i < sorted.size(); ++i) {
      f.kl_mean += sorted[i] / double(sorted.size());
      if (i < kept) f.kl_trimmed += sorted[i] / double(kept);
    }
    f.relative_l2 = l2_.value();
    f.top1 = double(same_) / double(sorted.size());
    return f;
  }

 private:
  static size_t argmax(std::span<const float> x) { return size_t(std::max_element(x.begin(), x.end()) - x.begin()); }
  std::vector<double> kl_;
  int same_ = 0;
  RelativeL2 l2_;
};

}  // namespace ponder::backend::testing
