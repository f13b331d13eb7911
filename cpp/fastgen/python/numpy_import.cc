#define FASTGEN_IMPORT_NUMPY_HERE
#include "fastgen/python/python_api.h"

namespace fastgen {

bool ImportNumpy() { return _import_array() >= 0; }

}  // namespace fastgen
