// For tests that need a card: a machine without one skips them, with the reason. Models are those of the CPU's tests.
#pragma once

#include <gtest/gtest.h>

#include "backend/cpu/test_models.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/driver/driver.h"

#define PONDER_NEEDS_A_CARD()                                                           \
  do {                                                                                  \
    const auto cards = ::ponder::backend::cuda::find_cards();                           \
    if (!cards.ok()) GTEST_SKIP() << "needs an NVIDIA card: " << cards.error().message; \
  } while (false)
