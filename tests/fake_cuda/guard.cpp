// What a torch without CUDA lacks to let autograd and torch.Generator name the device "cuda": a
// device guard, hooks and a generator. None of them computes anything; tensors.py does.
#include <ATen/EmptyTensor.h>
#include <ATen/core/Generator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>

namespace {
using namespace c10;

constexpr DeviceIndex kDevices = 2;
thread_local DeviceIndex current_device = 0;
thread_local StreamId current_streams[kDevices] = {};
std::atomic<int64_t> next_stream{1};
std::atomic<bool> capturing{false};

DeviceIndex or_current(DeviceIndex index) { return index < 0 ? current_device : index; }

struct Guard final : impl::DeviceGuardImplInterface {
  DeviceType type() const override { return kCUDA; }
  DeviceIndex deviceCount() const noexcept override { return kDevices; }

  Device getDevice() const override { return Device(kCUDA, current_device); }
  void setDevice(Device device) const override { current_device = or_current(device.index()); }
  void uncheckedSetDevice(Device device) const noexcept override {
    current_device = or_current(device.index());
  }
  Device exchangeDevice(Device device) const override {
    Device before = getDevice();
    setDevice(device);
    return before;
  }

  Stream getStream(Device device) const noexcept override {
    DeviceIndex index = or_current(device.index());
    return Stream(Stream::UNSAFE, Device(kCUDA, index), current_streams[index]);
  }
  Stream getDefaultStream(Device device) const override {
    return Stream(Stream::DEFAULT, Device(kCUDA, or_current(device.index())));
  }
  Stream getNewStream(Device device, int) const override {
    return Stream(Stream::UNSAFE, Device(kCUDA, or_current(device.index())), next_stream++);
  }
  Stream exchangeStream(Stream stream) const noexcept override {
    DeviceIndex index = or_current(stream.device_index());
    StreamId before = current_streams[index];
    current_streams[index] = stream.id();
    return Stream(Stream::UNSAFE, Device(kCUDA, index), before);
  }

  // Work is done when it is asked for: whatever streams and events wait for has happened.
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}
  bool isStreamCapturing(const Stream&) const { return capturing; }  // older torch has it not
};

// The state of CUDA's generator: a seed and an offset, 16 bytes.
struct SeedAndOffset final : GeneratorImpl {
  uint64_t seed_ = 0, offset_ = 0;

  explicit SeedAndOffset(DeviceIndex index)
      : GeneratorImpl(Device(kCUDA, index), DispatchKeySet(DispatchKey::CUDA)) {}

  static DeviceType device_type() { return kCUDA; }
  void set_current_seed(uint64_t seed) override { seed_ = seed; offset_ = 0; }
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override { set_current_seed(42); return seed_; }
  void set_offset(uint64_t offset) override { offset_ = offset; }
  uint64_t get_offset() const override { return offset_; }

  // The checks are those of ATen/cuda/CUDAGeneratorImpl.cpp.
  void set_state(const TensorImpl& state) override {
    TORCH_CHECK(state.device().is_cpu(), "RNG state must be a torch.ByteTensor");
    TORCH_CHECK(state.numel() == 16 || state.numel() == 8, "RNG state is wrong size");
    auto* words = static_cast<const uint64_t*>(state.data());
    seed_ = words[0];
    offset_ = state.numel() == 16 ? words[1] : 0;
  }
  intrusive_ptr<TensorImpl> get_state() const override {
    auto state = at::detail::empty_cpu(
        {16}, kByte, std::nullopt, std::nullopt, std::nullopt, std::nullopt);
    auto* words = static_cast<uint64_t*>(state.mutable_data_ptr());
    words[0] = seed_;
    words[1] = offset_;
    return state.getIntrusivePtr();
  }
  void graphsafe_set_state(const intrusive_ptr<GeneratorImpl>&) override {}
  SeedAndOffset* clone_impl() const override {
    auto* twin = new SeedAndOffset(device().index());
    twin->seed_ = seed_;
    twin->offset_ = offset_;
    return twin;
  }
};

struct CUDAHooks : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return kDevices; }
  int getNumGPUs() const override { return kDevices; }
  DeviceIndex current_device() const override { return ::current_device; }
  DeviceIndex getCurrentDevice() const override { return ::current_device; }
  void deviceSynchronize(DeviceIndex) const override {}
  const at::Generator& getDefaultGenerator(DeviceIndex index) const override {
    static at::Generator generators[kDevices] = {
        at::make_generator<SeedAndOffset>(0), at::make_generator<SeedAndOffset>(1)};
    return generators[or_current(index)];
  }
  at::Generator getNewGenerator(DeviceIndex index) const override {
    return at::make_generator<SeedAndOffset>(or_current(index));
  }
};

Guard guard;
}  // namespace

namespace at {
using ::CUDAHooks;
REGISTER_CUDA_HOOKS(CUDAHooks);
}  // namespace at

extern "C" {
void fake_cuda_install() {
  impl::device_guard_impl_registry[static_cast<size_t>(kCUDA)].store(&guard);
}
void fake_cuda_set_capturing(int on) { capturing = on; }
}
