// `new` that can be told to fail, for the tests that are linked with failing_new.cc.
#ifndef FASTGEN_TESTS_CPP_FAILING_NEW_H_
#define FASTGEN_TESTS_CPP_FAILING_NEW_H_

namespace fastgen::testing {

/// While one of these lives, every `new` of its thread throws std::bad_alloc. malloc() and its kin go on.
class OutOfMemory {
 public:
  OutOfMemory();
  ~OutOfMemory();
  OutOfMemory(const OutOfMemory&) = delete;
  OutOfMemory& operator=(const OutOfMemory&) = delete;
};

}  // namespace fastgen::testing

#endif  // FASTGEN_TESTS_CPP_FAILING_NEW_H_
