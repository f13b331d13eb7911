"""Prints by how many megabytes this process grew while it read a dataset; run by the memory rows.

python memory_probe.py tf.data|fastgen scalars|images ELEMENTS
"""

import json
import os
import sys
from functools import partial

import sources
import tensorflow as tf
from pipelines import FROM_GENERATOR

LABEL = tf.TensorSpec((), tf.int64)
WORK = {
    "scalars": (sources.numbers, LABEL, 256),
    "images": (sources.images, (tf.TensorSpec(sources.IMAGE, tf.float32), LABEL), 32),
}
SAMPLES = 100


def resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    system, work, elements = sys.argv[1], sys.argv[2], int(sys.argv[3])
    source, signature, batch = WORK[work]
    made = FROM_GENERATOR[system](partial(source, elements), output_signature=signature)
    batches = -(-elements // batch)
    every = max(1, batches // SAMPLES)
    samples = []
    for number, _ in enumerate(made.batch(batch)):
        if number % every == 0:
            samples.append(resident_mb())
    start = len(samples) // 20
    print(json.dumps({"growth_mb": max(samples[start:]) - samples[start], "samples": samples}))


if __name__ == "__main__":
    main()
