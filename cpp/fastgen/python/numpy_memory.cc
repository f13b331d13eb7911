#include "fastgen/python/numpy_memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <unordered_map>

#include "fastgen/python/array_copy.h"
#include "fastgen/python/python_api.h"

namespace fastgen::numpy_memory {
namespace {

/// What stands before the bytes of every array: which slab they lie in, or null for malloc, and how many they are.
struct Header {
  Block* slab;
  std::size_t size;
};

/// Below, the allocator keeps its pages anyway, and a slab would cost more than it saves.
constexpr std::size_t kSmallestInSlab = std::size_t{16} << 10;

/// From here on zeroed arrays come from the system: its pages are zero without being touched, and a huge array that is mostly
/// never touched must cost nothing. Below, clearing a recycled slab is cheaper than taking fresh pages.
constexpr std::size_t kLargestZeroedInSlab = std::size_t{16} << 20;

static_assert(sizeof(Header) <= kOffsetInSlab && sizeof(Header) % alignof(std::max_align_t) == 0);

/// More is not to be had, and must not wrap when the header is added.
constexpr std::size_t kLargest = PTRDIFF_MAX - kOffsetInSlab;

Header* HeaderOf(void* bytes) { return static_cast<Header*>(bytes) - 1; }

void* AllocateInSlab(Slabs& slabs, std::size_t size) {
  try {
    Block* slab = slabs.Get(size + kOffsetInSlab).release();
    void* bytes = slab->data() + kOffsetInSlab;
    *HeaderOf(bytes) = {slab, size};
    return bytes;
  } catch (const std::bad_alloc&) {
    return nullptr;  // NumPy raises MemoryError
  }
}

void* Finish(void* memory, std::size_t size) {
  if (memory == nullptr) return nullptr;
  auto* header = static_cast<Header*>(memory);
  *header = {nullptr, size};
  return header + 1;
}

// NumPy's four functions. They may be called without the GIL, so they touch no Python. The first argument of each is the Slabs that
// the handler was made for.

void* Allocate(void* self, std::size_t size) {
  if (size > kLargest) return nullptr;
  if (size >= kSmallestInSlab) return AllocateInSlab(*static_cast<Slabs*>(self), size);
  return Finish(std::malloc(size + sizeof(Header)), size);
}

void* AllocateZeroed(void* self, std::size_t count, std::size_t size_of_one) {
  std::size_t size = 0;
  if (__builtin_mul_overflow(count, size_of_one, &size)) return nullptr;
  if (size > kLargest) return nullptr;
  if (size < kSmallestInSlab || size > kLargestZeroedInSlab) return Finish(std::calloc(1, size + sizeof(Header)), size);
  void* bytes = Allocate(self, size);
  if (bytes != nullptr) std::memset(bytes, 0, size);
  return bytes;
}

void Free(void*, void* bytes, std::size_t) {
  if (bytes == nullptr) return;
  Header* header = HeaderOf(bytes);
  if (header->slab != nullptr) {
    header->slab->Unref();
  } else {
    std::free(header);
  }
}

void* Reallocate(void* self, void* bytes, std::size_t size) {
  if (bytes == nullptr) return Allocate(self, size);
  const std::size_t old_size = HeaderOf(bytes)->size;
  void* moved = Allocate(self, size);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, bytes, old_size < size ? old_size : size);
  Free(self, bytes, old_size);
  return moved;
}

/// The handler for these slabs: one for each kind of memory, never destroyed, because arrays refer to theirs. With the GIL.
PyDataMem_Handler* HandlerOf(Slabs& slabs) {
  static auto* handlers = new std::unordered_map<Slabs*, PyDataMem_Handler>;
  const auto [entry, is_new] = handlers->try_emplace(&slabs);
  if (is_new) entry->second = {"fastgen", 1, {&slabs, &Allocate, &AllocateZeroed, &Reallocate, &Free}};
  return &entry->second;  // a map's entries stay where they are
}

}  // namespace

Block* SlabOf(PyArrayObject* array) {
  const auto* const fields = reinterpret_cast<const PyArrayObject_fields*>(array);
  if (!OwnsMemoryAlone(array) || fields->mem_handler == nullptr) return nullptr;
  const auto* const handler = static_cast<PyDataMem_Handler*>(PyCapsule_GetPointer(fields->mem_handler, "mem_handler"));
  if (handler == nullptr) PyErr_Clear();
  if (handler == nullptr || handler->allocator.malloc != &Allocate) return nullptr;
  return HeaderOf(PyArray_DATA(array))->slab;
}

bool Install(Slabs& slabs) {
  PyDataMem_Handler* handler = nullptr;
  try {
    handler = HandlerOf(slabs);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
    return false;
  }
  PyObject* capsule = PyCapsule_New(handler, "mem_handler", nullptr);
  if (capsule == nullptr) return false;
  PyObject* previous = PyDataMem_SetHandler(capsule);
  Py_DECREF(capsule);
  Py_XDECREF(previous);
  return previous != nullptr;
}

}  // namespace fastgen::numpy_memory
