"""The names of what is compared, as they stand in the results."""

__all__ = ["FASTGEN", "MEMCPY", "RAW", "SLICES", "STOCK"]

STOCK = "tf.data"
FASTGEN = "fastgen"
SLICES = "from_tensor_slices"
RAW = "raw"
"""Python's own limit: the same generator in a bare `for` loop."""
MEMCPY = "memcpy"
"""What it takes to copy the bytes of one element into memory that was used before."""
