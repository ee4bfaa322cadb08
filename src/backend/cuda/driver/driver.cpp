// Error numbers are the driver's (CUresult); only those that a person can do something about have their own sentence.
// Next: driver_test.cpp, which plays every kind of broken machine.
#include "backend/cuda/driver/driver.h"

#include <iterator>

#include "base/os/system.h"

namespace ponder::backend::cuda {
namespace {

constexpr int kNoDevice = 100, kSystemNotReady = 802, kDriverMismatch = 803, kNotPermitted = 800;
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;  // CUdevice_attribute

Error broken(const std::string& what) { return Error{ErrorCode::unsupported, what}; }

std::string version(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }

Error init_failed(int code) {
  switch (code) {
    case kNoDevice:
      return broken(
          "the NVIDIA driver is installed, but it sees no card (is one fitted, and not hidden by "
          "CUDA_VISIBLE_DEVICES or the container?)");
    case kDriverMismatch:
      return broken(
          "the NVIDIA driver's library and its kernel module are of different versions: reboot, or reinstall the "
          "driver");
    case kSystemNotReady:
      return broken("the NVIDIA driver says the system is not ready: is the fabric manager running?");
    case kNotPermitted:
      return broken("this user may not use the NVIDIA card (check the rights of /dev/nvidia*)");
    default:
      return broken("the NVIDIA driver does not start (error " + std::to_string(code) + " of cuInit)");
  }
}

}  // namespace

Result<DriverApi> load_driver() {
  constexpr const char* kNames[] = {"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"};
  // Never closed: the CUDA runtime asks for the same library by name and must find this one.
  static const auto library = os::SharedLibrary::open(kNames, int(std::size(kNames)));
  if (!library.ok()) return Error{ErrorCode::not_found, "no NVIDIA driver is installed (libcuda.so.1 was not found)"};
  DriverApi api;
  bool complete = true;
  const auto take = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(library->symbol(name));
    complete = complete && function != nullptr;
  };
  take(api.init, "cuInit");
  take(api.driver_version, "cuDriverGetVersion");
  take(api.device_count, "cuDeviceGetCount");
  take(api.device_get, "cuDeviceGet");
  take(api.device_name, "cuDeviceGetName");
  take(api.device_memory, "cuDeviceTotalMem_v2");
  take(api.device_attribute, "cuDeviceGetAttribute");
  if (!complete) return broken("libcuda.so.1 is not an NVIDIA driver that this build knows");
  return api;
}

Result<std::vector<Card>> find_cards(const DriverApi& driver) {
  if (const int code = driver.init(0); code != 0) return init_failed(code);
  int offered = 0;
  if (const int code = driver.driver_version(&offered); code != 0) return init_failed(code);
  if (offered < kRequiredDriverVersion)
    return broken("the NVIDIA driver is too old: it offers CUDA " + version(offered) + ", this build needs " +
                  version(kRequiredDriverVersion) + " (driver 580 or newer)");
  int count = 0;
  if (const int code = driver.device_count(&count); code != 0) return init_failed(code);
  if (count == 0) return init_failed(kNoDevice);
  std::vector<Card> usable;
  std::string old;
  for (int i = 0; i < count; ++i) {
    Card card{.index = i};
    int device = 0, major = 0, minor = 0;
    char name[256] = "";
    size_t memory = 0;
    if (driver.device_get(&device, i) != 0 || driver.device_name(name, sizeof name - 1, device) != 0 ||
        driver.device_memory(&memory, device) != 0 || driver.device_attribute(&major, kCapabilityMajor, device) != 0 ||
        driver.device_attribute(&minor, kCapabilityMinor, device) != 0)
      continue;  // a card that does not even tell its name (fallen off the bus) is not used
    card.name = name;
    card.memory = memory;
    card.capability = major * 10 + minor;
    if (card.usable()) {
      usable.push_back(card);
    } else {
      old += (old.empty() ? "" : ", ") + card.name + " (compute capability " + std::to_string(major) + "." +
             std::to_string(minor) + ")";
    }
  }
  if (!usable.empty()) return usable;
  if (!old.empty()) return broken(old + ": too old, compute capability 7.5 (GeForce RTX 20 or newer) is needed");
  return broken("the NVIDIA driver lists " + std::to_string(count) + " cards, but none of them answers");
}

Result<std::vector<Card>> find_cards() {
  PONDER_TRY(const DriverApi driver, load_driver());
  return find_cards(driver);
}

}  // namespace ponder::backend::cuda
