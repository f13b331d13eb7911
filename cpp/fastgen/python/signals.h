// Ctrl-C, and every other signal with a Python handler, for a main thread that waits in C++.
#ifndef FASTGEN_PYTHON_SIGNALS_H_
#define FASTGEN_PYTHON_SIGNALS_H_

namespace fastgen::signals {

/// Runs the Python handlers of signals that have arrived, if this is the main thread. True when one of them raised: the caller
/// should return to Python at once, where the exception is raised again. Takes the GIL for a moment; elsewhere than on the main
/// thread it does nothing.
bool Interrupted();

}  // namespace fastgen::signals

#endif  // FASTGEN_PYTHON_SIGNALS_H_
