// Tells TensorFlow that a dataset reads ahead by itself.
//
// TensorFlow appends a prefetch to a pipeline that does not end in one: a thread and a hand-over more for each element, which
// would gain nothing behind a dataset that is a prefetch in all but name. So in graphs it gets that name: its node is followed by
// a PrefetchDataset with a label that picks a kernel which does nothing.
#ifndef FASTGEN_TENSORFLOW_READ_AHEAD_MARK_H_
#define FASTGEN_TENSORFLOW_READ_AHEAD_MARK_H_

#include "tensorflow/core/framework/dataset.h"

namespace fastgen {

/// Writes the mark behind `node`, which stands for `dataset` in the graph that is being built. For AsGraphDefInternal().
absl::Status MarkAsReadingAhead(const tensorflow::data::DatasetBase& dataset,
                                tensorflow::data::DatasetBase::DatasetGraphDefBuilder* builder, tensorflow::Node* node,
                                tensorflow::Node** output);

}  // namespace fastgen

#endif  // FASTGEN_TENSORFLOW_READ_AHEAD_MARK_H_
