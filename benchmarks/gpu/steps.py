"""What is done with a batch on the device."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["Step", "matmuls", "resnet"]

Step = Callable[[Any, Any], tf.Tensor]
"""Takes images and labels; the scalar that it returns is known when its work is done."""


def matmuls(repeats: int, size: int, device: str) -> Step:
    """A step of adjustable length that hardly looks at its batch."""
    with tf.device(device):
        matrix = tf.Variable(tf.random.normal((size, size)) / size**0.5)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.device(device):
            product = matrix + tf.cast(images[0, 0, 0, 0], tf.float32) * 1e-9
            # Unrolled: a loop in the graph would be driven by the host, which has other work.
            for _ in range(repeats):
                product = tf.matmul(product, matrix)
            return tf.reduce_mean(product)

    return step  # type: ignore[no-any-return]


def resnet(
    shape: tuple[int, ...], classes: int, device: str, blocks: tuple[int, ...] = (2, 2, 2, 2)
) -> Step:
    """A training step of a residual network: 18 layers with the blocks as they are."""
    with tf.device(device):
        model = _residual_network(shape, classes, blocks)
        optimizer = tf.keras.optimizers.SGD(0.01, momentum=0.9)
        optimizer.build(model.trainable_variables)
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.device(device):
            with tf.GradientTape() as tape:
                # On the device: a byte a value is a quarter of the copy.
                scaled = tf.cast(images, tf.float32) / 255
                loss = loss_of(labels, model(scaled, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return loss

    return step  # type: ignore[no-any-return]


def _residual_network(shape: tuple[int, ...], classes: int, blocks: tuple[int, ...]) -> Any:
    layers = tf.keras.layers

    def convolution(x: Any, filters: int, kernel: int, stride: int) -> Any:
        x = layers.Conv2D(filters, kernel, stride, "same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    image = tf.keras.Input(shape)
    x = layers.ReLU()(convolution(image, 64, 7, 2))
    x = layers.MaxPooling2D(3, 2, "same")(x)
    for stage, count in enumerate(blocks):
        for block in range(count):
            filters, stride = 64 << stage, 2 if stage > 0 and block == 0 else 1
            inner = layers.ReLU()(convolution(x, filters, 3, stride))
            inner = convolution(inner, filters, 3, 1)
            if stride > 1 or x.shape[-1] != filters:
                x = convolution(x, filters, 1, stride)
            x = layers.ReLU()(layers.Add()([x, inner]))
    x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(image, layers.Dense(classes)(x))
