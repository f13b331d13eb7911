"""Bytes, strings and elements of many lengths."""

import sources
import tensorflow as tf
from aims import AtLeast, AtMost
from names import MEMCPY, RAW, STOCK
from pipelines import copying, systems
from row import Row

__all__ = ["ROWS"]

BLOB = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64))

ROWS = (
    Row(
        name="bytes",
        what="50 KB of bytes and label, batch(32)",
        systems=systems(sources.blobs, BLOB, lambda ds: ds.batch(32), 32) | copying(50_000),
        aims=(AtMost(1.5, (MEMCPY,), plus=1.0),),
        limit=(RAW, MEMCPY),
        step=32,
    ),
    Row(
        name="tokens",
        what="lists of 32 str, batch(128)",
        systems=systems(
            sources.sentences, tf.TensorSpec((32,), tf.string), lambda ds: ds.batch(128), 128
        ),
        aims=(AtLeast(20, STOCK),),
        step=128,
    ),
    Row(
        name="ragged",
        what="float32[None,5], padded_batch(32)",
        systems=systems(
            sources.tracks, tf.TensorSpec((None, 5), tf.float32), lambda ds: ds.padded_batch(32)
        ),
        aims=(AtLeast(30, STOCK),),
        step=32,
    ),
)
