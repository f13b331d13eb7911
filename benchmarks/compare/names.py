"""The names of what is compared, as they stand in the results."""

__all__ = ["FASTGEN", "LOOP", "MEMCPY", "RAW", "SLICES", "STOCK"]

STOCK = "tf.data"
FASTGEN = "fastgen"
SLICES = "from_tensor_slices"
RAW = "raw"
"""Python's own limit: the same generator in a bare `for` loop."""
MEMCPY = "memcpy"
"""What it takes to copy the bytes of one element into memory that was used before."""
LOOP = "loop"
"""TensorFlow's own part of it: the same `for` loop over batches that are there already."""
