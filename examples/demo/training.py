"""Trains the classifier of the demo once, and measures each step of it."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from photographs import IMAGE_SHAPE
from tqdm import tqdm

__all__ = ["BATCH", "SIGNATURE", "UNCOUNTED", "Run", "train"]

BATCH = 32
UNCOUNTED = 5
"""Steps at the start of a run that are trained but not timed: TensorFlow traces its graph there."""

SIGNATURE = (tf.TensorSpec(IMAGE_SHAPE, tf.uint8), tf.TensorSpec((), tf.int32))


@dataclass
class Run:
    """What one training gave. Times are in seconds, one value for each timed step."""

    waits: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    held_out_loss: float = float("nan")
    held_out_accuracy: float = float("nan")


def small_network() -> keras.Model:
    """Return a convolutional network for two classes, without weights trained before."""
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE, dtype="uint8"),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )


def make_step(model: keras.Model) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a function that trains `model` with one batch and returns the loss."""
    optimizer = keras.optimizers.Adam(1e-3)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    compiled: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = tf.function(step)
    return compiled


def timed(batches: Iterable[Any]) -> Iterator[tuple[Any, float]]:
    """Yield each batch with the seconds that it took until it came."""
    iterator = iter(batches)
    while True:
        started = time.perf_counter()
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch, time.perf_counter() - started


def train(
    dataset: tf.data.Dataset,
    held_out: tuple[np.ndarray, np.ndarray],
    steps: int,
    seed: int,
    title: str,
) -> Run:
    """Train a new network with `steps` batches of `dataset`, then test it.

    Seeds are set here and nothing else is random, so equal data gives an equal result. The
    held-out images are plain arrays: no pipeline has a part in testing.

    (`enable_op_determinism` is left off on purpose. It makes TensorFlow drop `prefetch` behind
    its own `from_generator`, which would let that look slower than it is.)
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = small_network()
    step = make_step(model)
    run = Run()
    batches = dataset.batch(BATCH, drop_remainder=True).take(steps).prefetch(tf.data.AUTOTUNE)
    for (images, labels), wait in tqdm(timed(batches), total=steps, desc=title, unit="step"):
        started = time.perf_counter()
        loss = float(step(images, labels))  # As a float it is known when the step is over.
        seconds = time.perf_counter() - started
        run.losses.append(loss)
        if len(run.losses) > UNCOUNTED:
            run.waits.append(wait)
            run.steps.append(wait + seconds)
    run.held_out_loss, run.held_out_accuracy = evaluate(model, held_out)
    return run


def evaluate(model: keras.Model, held_out: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Return loss and accuracy on the held-out images."""
    images, labels = held_out
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    loss, accuracy = model.evaluate(images, labels, batch_size=256, verbose=0)
    return float(loss), float(accuracy)
