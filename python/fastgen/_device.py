"""From the dataset to the device that trains."""

from typing import Any

import tensorflow as tf
from tensorflow.python.data.util import nest, structure

from fastgen._signature import component_paths

__all__ = ["ToDevice"]


class ToDevice:
    """What every dataset of fastgen's can do."""

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def prefetch_to_device(self, device: str, buffer_size: int | None = None) -> tf.data.Dataset:
        """Copies elements to a device ahead of their use; the last transformation of a pipeline.

        The same as `dataset.apply(tf.data.experimental.prefetch_to_device(device, buffer_size))`,
        which works as well.

        >>> import fastgen, tensorflow as tf
        >>> ds = fastgen.from_generator(lambda: range(3), output_signature=tf.TensorSpec((), "int64"))
        >>> for batch in ds.batch(2).prefetch_to_device("/cpu:0", buffer_size=2):
        ...     print(batch.numpy(), batch.device[-5:])
        [0 1] CPU:0
        [2] CPU:0

        Args:
          device: The device's name, such as "/gpu:0".
          buffer_size: How many elements wait on the device, in its memory. None: as many as help.

        Returns:
          A `tf.data.Dataset`, whose iterator lives on the device.

        Raises:
          TypeError: `device` is no string.
          ValueError: There is no such device, `buffer_size` is negative, or a component cannot be copied to it: only numbers
            and booleans can be copied to a GPU.
        """
        if isinstance(buffer_size, int) and buffer_size < tf.data.AUTOTUNE:
            raise ValueError(
                f"`buffer_size` must be None, AUTOTUNE or a number of elements, got {buffer_size}."
            )
        if _check_device(device) != "CPU":
            _check_components(self.element_spec, device)  # type: ignore[attr-defined]
        to_device = tf.data.experimental.prefetch_to_device(device, buffer_size)
        return self.apply(to_device)  # type: ignore[attr-defined]


def _check_device(device: str) -> str:
    """The type of the device."""
    if not isinstance(device, str):
        raise TypeError(f"`device` must be a device's name, such as '/gpu:0', got {device!r:.200}.")
    try:
        wanted = tf.DeviceSpec.from_string(device)
    except ValueError as error:
        raise ValueError(f"`device` is no device's name: {error}") from None
    if wanted.job not in (None, "localhost"):
        return str(wanted.device_type)  # another process's, which may not even run yet
    devices = tf.config.list_logical_devices()
    for candidate in devices:
        spec = tf.DeviceSpec.from_string(candidate.name)
        same_type = spec.device_type == wanted.device_type
        if same_type and spec.device_index == (wanted.device_index or 0):
            return str(wanted.device_type)
    names = ", ".join(candidate.name for candidate in devices)
    raise ValueError(f"There is no device {device!r}. TensorFlow has: {names}.")


def _check_components(element_spec: Any, device: str) -> None:
    """TensorFlow would fail at the first element, or say nothing and leave it where it is."""
    for path, spec in zip(component_paths(element_spec), nest.flatten(element_spec), strict=True):
        for part in structure.get_flat_tensor_specs(spec):
            if part.dtype in (tf.string, tf.variant, tf.resource):
                where = f"Component {path}" if path else "The element"
                raise ValueError(
                    f"{where} cannot be copied to {device}: it is {spec}, and only dense tensors of "
                    f"numbers and booleans can. Leave it out before `prefetch_to_device`, or use "
                    f"`prefetch`, which keeps it on the CPU."
                )
