#include "backend/cuda/cuda_backend.h"

#include "backend/cuda/plan.h"

namespace ponder::backend::cuda {
namespace {

constexpr uint64_t kKeptFree = uint64_t(256) << 20;  // of a card's memory: kernels' own needs, and the desktop's

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::vector<Card> cards, MakeFrontLayers front_layers)
      : cards_(std::move(cards)), front_layers_(std::move(front_layers)) {}
  const char* name() const override { return "cuda"; }

  Result<std::unique_ptr<Plan>> compile(std::shared_ptr<const model::Model> model,
                                        const PlanOptions& options) override {
    std::vector<CardRoom> rooms;
    for (const Card& card : cards_) {
      CardRoom room{.card = card, .limits = {}};
      size_t free = 0, total = 0;
      PONDER_CHECK_OK(check(cudaSetDevice(card.index), "starting " + card.name));
      const cudaError_t limits = read_limits(card.index, &room.limits);
      if (limits == cudaErrorNoKernelImageForDevice)
        return Error{ErrorCode::unsupported, "this ponder was built without kernels for " + card.name +
                                                 " (compute capability " + std::to_string(card.capability / 10) + "." +
                                                 std::to_string(card.capability % 10) +
                                                 "); build it with PONDER_CUDA_ARCHS naming it"};
      PONDER_CHECK_OK(check(limits, "asking " + card.name + " for its limits"));
      PONDER_CHECK_OK(check(cudaMemGetInfo(&free, &total), "asking " + card.name + " for its memory"));
      room.free = free;
      room.budget = free > kKeptFree ? free - kKeptFree : 0;
      if (options.gpu_memory > 0) room.budget = std::min(room.budget, options.gpu_memory);
      rooms.push_back(room);
    }
    PONDER_TRY(auto plan, CudaPlan::make(std::move(model), options, std::move(rooms), front_layers_));
    return std::unique_ptr<Plan>(std::move(plan));
  }

 private:
  const std::vector<Card> cards_;
  const MakeFrontLayers front_layers_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_backend(MakeFrontLayers front_layers) {
  PONDER_TRY(auto cards, find_cards());
  return std::unique_ptr<Backend>(std::make_unique<CudaBackend>(std::move(cards), std::move(front_layers)));
}

}  // namespace ponder::backend::cuda
