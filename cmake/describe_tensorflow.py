"""Prints what CMake needs to know of the TensorFlow that this interpreter imports.

One line: minor version; include folder; library to link; preprocessor definitions, separated by commas.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

definitions = [flag[2:] for flag in tf.sysconfig.get_compile_flags() if flag.startswith("-D")]
library = next(flag[3:] for flag in tf.sysconfig.get_link_flags() if flag.startswith("-l:"))
sys.stdout.write(
    ";".join(
        [
            ".".join(tf.__version__.split(".")[:2]),
            tf.sysconfig.get_include(),
            os.path.join(tf.sysconfig.get_lib(), library),
            ",".join(definitions),
        ]
    )
)
