// NVIDIA's driver as far as edgepose calls it, on host memory, with edgepose's own kernel run on the CPU.
//
// It is strict where a GPU is unforgiving: work only happens when somebody waits for it, so a host that reads too early sees old bytes;
// addresses and handles it never gave out are errors; what is still alive is counted.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "preprocess.cuh"

namespace {

using Work = std::vector<std::function<void()>>;
struct Stream {
  Work queue;
  Work* captured = nullptr;
};
struct Event {
  Stream* stream = nullptr;
  size_t after = 0;
};
constexpr int kOk = 0, kInvalidValue = 1, kInvalidHandle = 400, kNotReady = 600, kCaptureInvalidated = 901;

std::mutex mutex;
std::map<uint64_t, size_t> memory;  // device and pinned blocks by address
std::set<void*> handles;
int retained = 0;  // of the primary context
int copies = 0;    // asked for, between host and device

bool inside(uint64_t address, size_t size) {
  auto block = memory.upper_bound(address);
  if (block == memory.begin()) return false;
  --block;
  return address + size <= block->first + block->second;
}
template <typename T>
int made(void** out, T* object) {
  handles.insert(object);
  *out = object;
  return kOk;
}
template <typename T>
int freed(void* handle) {
  if (!handles.erase(handle)) return kInvalidHandle;
  delete static_cast<T*>(handle);
  return kOk;
}
int queued(void* stream, std::function<void()> work) {
  if (!handles.count(stream)) return kInvalidHandle;
  auto* s = static_cast<Stream*>(stream);
  (s->captured ? *s->captured : s->queue).push_back(std::move(work));
  return kOk;
}
void run(Stream* stream, std::unique_lock<std::mutex>& lock) {
  Work work;
  work.swap(stream->queue);
  lock.unlock();  // a callback may call back
  for (auto& each : work) each();
  lock.lock();
}
void fit(const edgepose::PreprocessParameters& p, uint64_t out) {
  float* values = reinterpret_cast<float*>(out);
  for (int32_t y = 0; y < p.height; ++y)
    for (int32_t x = 0; x < p.width; ++x) {
      float pixel[3];
      edgepose::network_pixel(p, x, y, pixel);
      for (int c = 0; c < 3; ++c) values[(c * p.height + y) * p.width + x] = pixel[c];
    }
}
int kernel_fp32, kernel_fp16;

}  // namespace

#define GUARD std::unique_lock<std::mutex> lock(mutex)

extern "C" {

int emulated_alive() { GUARD; return static_cast<int>(memory.size() + handles.size()) + retained; }
int emulated_copies() { GUARD; return copies; }
int emulated_enqueue(void* stream, void (*work)()) { GUARD; return queued(stream, work); }

int cuInit(unsigned) { return kOk; }
int cuDriverGetVersion(int* version) { *version = 13000; return kOk; }
int cuDeviceGet(int* device, int) { *device = 0; return kOk; }
int cuDeviceGetName(char* name, int size, int) { std::strncpy(name, "Emulated", size); return kOk; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = size_t{8} << 30; return kOk; }
int cuDeviceGetAttribute(int* value, int which, int) {
  const int integrated = std::getenv("EMULATED_CUDA_SHARED_MEMORY") ? 1 : 0;
  *value = which == 75 ? 8 : which == 76 ? 7 : integrated;
  return kOk;
}
int cuDevicePrimaryCtxRetain(void** context, int) { GUARD; ++retained; *context = &retained; return kOk; }
int cuDevicePrimaryCtxRelease_v2(int) { GUARD; return retained-- > 0 ? kOk : 201; }
int cuCtxSetCurrent(void* context) { GUARD; return context == &retained && retained > 0 ? kOk : 201; }

int cuMemAlloc_v2(uint64_t* address, size_t size) {
  GUARD;
  *address = reinterpret_cast<uint64_t>(std::malloc(size));
  memory[*address] = size;
  return kOk;
}
int cuMemFree_v2(uint64_t address) {
  GUARD;
  if (!memory.erase(address)) return kInvalidValue;
  std::free(reinterpret_cast<void*>(address));
  return kOk;
}
int cuMemHostAlloc(void** place, size_t size, unsigned) { return cuMemAlloc_v2(reinterpret_cast<uint64_t*>(place), size); }
int cuMemHostGetDevicePointer_v2(uint64_t* address, void* place, unsigned) {
  GUARD;
  *address = reinterpret_cast<uint64_t>(place);
  return inside(*address, 1) ? kOk : kInvalidValue;
}
int cuMemFreeHost(void* place) { return cuMemFree_v2(reinterpret_cast<uint64_t>(place)); }

int cuStreamCreate(void** stream, unsigned) { GUARD; return made(stream, new Stream); }
int cuStreamDestroy_v2(void* stream) { GUARD; return freed<Stream>(stream); }
int cuStreamSynchronize(void* stream) {
  GUARD;
  if (!handles.count(stream)) return kInvalidHandle;
  run(static_cast<Stream*>(stream), lock);
  return kOk;
}
int cuEventCreate(void** event, unsigned) { GUARD; return made(event, new Event); }
int cuEventDestroy_v2(void* event) { GUARD; return freed<Event>(event); }
int cuEventRecord(void* event, void* stream) {
  GUARD;
  if (!handles.count(event) || !handles.count(stream)) return kInvalidHandle;
  static_cast<Event*>(event)->stream = static_cast<Stream*>(stream);
  return kOk;
}
int cuEventQuery(void* event) {
  GUARD;
  if (!handles.count(event)) return kInvalidHandle;
  const auto* stream = static_cast<Event*>(event)->stream;
  return stream && !stream->queue.empty() ? kNotReady : kOk;
}
int cuEventSynchronize(void* event) {
  GUARD;
  if (!handles.count(event)) return kInvalidHandle;
  if (auto* stream = static_cast<Event*>(event)->stream) run(stream, lock);
  return kOk;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, void* stream) {
  GUARD;
  ++copies;
  if (!inside(to, size)) return kInvalidValue;
  return queued(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), from, size); });
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, void* stream) {
  GUARD;
  ++copies;
  if (!inside(from, size) || !inside(reinterpret_cast<uint64_t>(to), size)) return kInvalidValue;
  return queued(stream, [=] { std::memcpy(to, reinterpret_cast<const void*>(from), size); });
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void* stream) {
  GUARD;
  if (!inside(from, size) || !inside(to, size)) return kInvalidValue;
  return queued(stream, [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), size); });
}
int cuMemGetInfo_v2(size_t* free, size_t* whole) {
  GUARD;
  *whole = size_t{8} << 30;
  *free = *whole;
  for (const auto& block : memory) *free -= block.second;
  return kOk;
}

int cuModuleLoadData(void** module, const void* image) { GUARD; return image ? made(module, new int) : kInvalidValue; }
int cuModuleUnload(void* module) { GUARD; return freed<int>(module); }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  GUARD;
  if (!handles.count(module)) return kInvalidHandle;
  const std::string wanted(name);
  if (wanted != "edgepose_fit_fp32" && wanted != "edgepose_fit_fp16") return 500;
  *function = wanted == "edgepose_fit_fp32" ? &kernel_fp32 : &kernel_fp16;
  return kOk;
}
int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                   unsigned, void* stream, void** arguments, void**) {
  GUARD;
  if (function != &kernel_fp32) return kInvalidHandle;
  const auto p = *static_cast<const edgepose::PreprocessParameters*>(arguments[0]);  // copied at once, as the driver does
  const auto out = *static_cast<const uint64_t*>(arguments[1]);
  if (grid_x * block_x < static_cast<unsigned>(p.width) || grid_y * block_y < static_cast<unsigned>(p.height)) return kInvalidValue;
  if (grid_z != 1 || block_z != 1 || !inside(out, sizeof(float) * 3 * p.width * p.height)) return kInvalidValue;
  if (!inside(reinterpret_cast<uint64_t>(p.pixels), p.pitch)) return kInvalidValue;
  return queued(stream, [=] { fit(p, out); });
}

int cuStreamBeginCapture_v2(void* stream, int) {
  GUARD;
  if (!handles.count(stream)) return kInvalidHandle;
  static_cast<Stream*>(stream)->captured = new Work;
  return kOk;
}
int cuStreamEndCapture(void* stream, void** graph) {
  GUARD;
  auto* s = static_cast<Stream*>(stream);
  Work* work = s->captured;
  s->captured = nullptr;
  if (std::getenv("EMULATED_CUDA_NO_GRAPHS")) {
    delete work;
    *graph = nullptr;
    return kCaptureInvalidated;
  }
  return made(graph, work);
}
int cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long) {
  GUARD;
  return handles.count(graph) ? made(out, new Work(*static_cast<Work*>(graph))) : kInvalidHandle;
}
int cuGraphDestroy(void* graph) { GUARD; return freed<Work>(graph); }
int cuGraphExecDestroy(void* graph) { GUARD; return freed<Work>(graph); }
int cuGraphLaunch(void* graph, void* stream) {
  GUARD;
  if (!handles.count(graph)) return kInvalidHandle;
  for (auto& work : *static_cast<Work*>(graph)) queued(stream, work);
  return kOk;
}
}
