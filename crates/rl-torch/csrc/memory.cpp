// Bytes of tensors: a tracker for one thread's allocations, and the statistics of an accelerator's caching allocator.
//
// The accelerator is reached through libtorch's device-generic entry points, which live in libtorch_cpu; nothing here
// needs a CUDA header.

#include "shim.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace {

constexpr auto kKind = c10::DebugInfoKind::PROFILER_STATE;  // where libtorch's allocators look for a listener

struct Report {
  int64_t peak_bytes;
  int64_t current_bytes;
  int64_t num_allocations;
};

class Tracker : public c10::MemoryReportingInfoBase {
 public:
  Tracker() : outer_(c10::ThreadLocalDebugInfo::current()) {
    if (c10::memoryProfilingEnabled()) {
      listener_ = static_cast<c10::MemoryReportingInfoBase*>(c10::ThreadLocalDebugInfo::get(kKind));
    }
  }

  // `alloc_size` is negative when memory is given back. A block that was there before the tracker counts neither way.
  void reportMemoryUsage(void* block, int64_t alloc_size, size_t total_allocated, size_t total_reserved,
                         c10::Device device) override {
    if (listener_ != nullptr) {
      listener_->reportMemoryUsage(block, alloc_size, total_allocated, total_reserved, device);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    if (!active_) {
      return;
    }
    auto known = blocks_.find(block);
    if (known != blocks_.end()) {  // given back, here or (its address is handed out again) where nobody listened
      report_.current_bytes -= known->second;
      blocks_.erase(known);
    }
    if (0 < alloc_size) {
      blocks_[block] = alloc_size;
      report_.num_allocations += 1;
      report_.current_bytes += alloc_size;
      report_.peak_bytes = std::max(report_.peak_bytes, report_.current_bytes);
    }
  }

  bool memoryProfilingEnabled() const override { return active_ || listener_ != nullptr; }

  Report report() {
    std::lock_guard<std::mutex> lock(mutex_);
    return report_;
  }

  void stop() {
    std::lock_guard<std::mutex> lock(mutex_);
    active_ = false;
  }

  bool active() const { return active_; }

 private:
  std::shared_ptr<c10::ThreadLocalDebugInfo> outer_;  // keeps `listener_` alive
  c10::MemoryReportingInfoBase* listener_ = nullptr;
  std::mutex mutex_;
  std::atomic<bool> active_{true};
  std::unordered_map<void*, int64_t> blocks_;
  Report report_{0, 0, 0};
};

// Removes stopped trackers from the top of this thread's stack; one below a running tracker goes when that one does.
void pop_stopped() {
  while (auto* tracker = dynamic_cast<Tracker*>(c10::ThreadLocalDebugInfo::get(kKind))) {
    if (tracker->active()) {
      return;
    }
    c10::ThreadLocalDebugInfo::_pop(kKind);
  }
}

struct AcceleratorMemory {
  int64_t allocated_bytes;
  int64_t peak_allocated_bytes;
  int64_t reserved_bytes;
  int64_t peak_reserved_bytes;
  int64_t num_alloc_retries;
  int64_t num_out_of_memory;
};

}  // namespace

extern "C" {

char* reins_memory_tracker_start(void** tracker) {
  return reins::guard([&] {
    auto made = std::make_shared<Tracker>();
    auto* handle = new std::shared_ptr<Tracker>(made);
    c10::ThreadLocalDebugInfo::_push(kKind, made);
    *tracker = handle;
  });
}

void reins_memory_tracker_report(void* tracker, Report* report) {
  *report = (*static_cast<std::shared_ptr<Tracker>*>(tracker))->report();
}

// Ends and frees the tracker; on the thread that started it.
char* reins_memory_tracker_stop(void* tracker, Report* report) {
  return reins::guard([&] {
    std::unique_ptr<std::shared_ptr<Tracker>> handle(static_cast<std::shared_ptr<Tracker>*>(tracker));
    (*handle)->stop();
    *report = (*handle)->report();
    pop_stopped();
  });
}

bool reins_has_accelerator() { return at::accelerator::getAccelerator(false).has_value(); }

char* reins_accelerator_memory(int32_t device, AcceleratorMemory* memory) {
  return reins::guard([&] {
    auto stats = at::accelerator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *memory = {stats.allocated_bytes[all].current, stats.allocated_bytes[all].peak,
               stats.reserved_bytes[all].current,  stats.reserved_bytes[all].peak,
               stats.num_alloc_retries,            stats.num_ooms};
  });
}

char* reins_reset_accelerator_peak(int32_t device) {
  return reins::guard([&] { at::accelerator::resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

char* reins_release_accelerator_cache() {
  return reins::guard([&] { at::accelerator::emptyCache(); });
}

}  // extern "C"
