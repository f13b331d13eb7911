// TensorFlow's host memory for devices, as the native library asks for memory.
#ifndef FASTGEN_TENSORFLOW_DEVICE_MEMORY_H_
#define FASTGEN_TENSORFLOW_DEVICE_MEMORY_H_

#include "fastgen/core/slab_allocator.h"
#include "tensorflow/core/framework/dataset.h"

namespace fastgen {

/// Memory from which the devices of this program copy by themselves: what TensorFlow hands out where an op's output is said to go to
/// a GPU. Null where the program has no such device. What is returned lives for ever.
SlabAllocator* FindPinnedMemory(tensorflow::data::IteratorContext* ctx);

}  // namespace fastgen

#endif  // FASTGEN_TENSORFLOW_DEVICE_MEMORY_H_
