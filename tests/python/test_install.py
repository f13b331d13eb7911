"""Installing fastgen in place of TensorFlow's own `from_generator`."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from differential import STOCK

INT = tf.TensorSpec((), tf.int64)


@pytest.fixture(autouse=True)
def leave_tensorflow_as_it_was() -> Iterator[None]:
    yield
    fastgen.uninstall()
    assert tf.data.Dataset.from_generator is STOCK


def is_fastgen(dataset: tf.data.Dataset) -> bool:
    """Whether `dataset`, or what version 1 wraps in its own class, is made by fastgen."""
    inner = getattr(dataset, "_dataset", dataset)
    return type(inner).__module__.startswith("fastgen")


def made_by(make: Callable[..., tf.data.Dataset]) -> tf.data.Dataset:
    return make(lambda: range(3), output_signature=INT)


class TestInstall:
    def test_replaces_the_method(self) -> None:
        assert not is_fastgen(made_by(tf.data.Dataset.from_generator))
        fastgen.install()
        assert tf.data.Dataset.from_generator is not STOCK
        dataset = made_by(tf.data.Dataset.from_generator)
        assert is_fastgen(dataset)
        assert [int(value) for value in dataset] == [0, 1, 2]

    def test_replaces_that_of_version_1_too(self) -> None:
        fastgen.install()
        dataset = made_by(tf.compat.v1.data.Dataset.from_generator)
        assert is_fastgen(dataset)
        assert isinstance(dataset, tf.compat.v1.data.Dataset)

    def test_replaces_that_of_every_name_of_the_class(self) -> None:
        from tensorflow.python.data.ops import dataset_ops

        fastgen.install()
        assert is_fastgen(made_by(tf.compat.v2.data.Dataset.from_generator))
        assert is_fastgen(made_by(dataset_ops.Dataset.from_generator))
        assert is_fastgen(made_by(dataset_ops.DatasetV2.from_generator))

    def test_keeps_the_way_that_it_is_called(self) -> None:
        fastgen.install()
        make = tf.data.Dataset.from_generator
        assert [int(value) for value in make(lambda n: range(n), tf.int64, (), (2,))] == [0, 1]
        instance = tf.data.Dataset.range(1)
        assert is_fastgen(made_by(instance.from_generator))
        names = list(inspect.signature(STOCK).parameters)
        assert list(inspect.signature(make).parameters)[: len(names)] == names

    def test_keeps_the_errors(self) -> None:
        fastgen.install()
        with pytest.raises(TypeError, match="`generator` must be a Python callable"):
            tf.data.Dataset.from_generator(3, output_signature=INT)

    def test_leaves_alone_what_was_made_before(self) -> None:
        dataset = made_by(tf.data.Dataset.from_generator)
        fastgen.install()
        assert not is_fastgen(dataset)
        assert [int(value) for value in dataset] == [0, 1, 2]

    def test_does_not_call_itself(self) -> None:
        """fastgen must not be built on the method that it replaces."""
        fastgen.install()
        fastgen.install()
        assert [int(value) for value in made_by(fastgen.from_generator)] == [0, 1, 2]


class TestUninstall:
    def test_puts_back_the_very_method(self) -> None:
        fastgen.install()
        fastgen.uninstall()
        assert tf.data.Dataset.from_generator is STOCK
        assert not is_fastgen(made_by(tf.compat.v1.data.Dataset.from_generator))

    def test_leaves_the_classes_as_they_were(self) -> None:
        before = {cls: dict(vars(cls)) for cls in (tf.data.Dataset, tf.compat.v1.data.Dataset)}
        fastgen.install()
        fastgen.uninstall()
        for cls, attributes in before.items():
            assert dict(vars(cls)) == attributes

    def test_without_an_install_does_nothing(self) -> None:
        fastgen.uninstall()
        fastgen.uninstall()
        assert tf.data.Dataset.from_generator is STOCK

    def test_leaves_alone_what_fastgen_made(self) -> None:
        fastgen.install()
        dataset = made_by(tf.data.Dataset.from_generator)
        fastgen.uninstall()
        assert [int(value) for value in dataset.repeat(2)] == [0, 1, 2] * 2


class TestInstalled:
    def test_is_for_a_block(self) -> None:
        with fastgen.installed():
            assert is_fastgen(made_by(tf.data.Dataset.from_generator))
        assert tf.data.Dataset.from_generator is STOCK

    def test_ends_with_an_exception_too(self) -> None:
        with pytest.raises(KeyError), fastgen.installed():
            raise KeyError
        assert tf.data.Dataset.from_generator is STOCK

    def test_inside_another(self) -> None:
        with fastgen.installed():
            with fastgen.installed():
                assert is_fastgen(made_by(tf.data.Dataset.from_generator))
            assert is_fastgen(made_by(tf.data.Dataset.from_generator))
        assert tf.data.Dataset.from_generator is STOCK

    def test_inside_an_install(self) -> None:
        fastgen.install()
        with fastgen.installed():
            pass
        assert is_fastgen(made_by(tf.data.Dataset.from_generator))


class TestOtherPeoplesCode:
    """Libraries that call `tf.data.Dataset.from_generator` use fastgen when it is installed."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Which op each dataset of a source is made with."""
        made: list[str] = []
        import tensorflow.python.data.ops.dataset_ops as dataset_ops

        plain = dataset_ops.DatasetSource.__init__

        def watch(self: Any, *args: Any, **kwargs: Any) -> None:
            made.append(type(self).__module__.partition(".")[0])
            plain(self, *args, **kwargs)

        monkeypatch.setattr(dataset_ops.DatasetSource, "__init__", watch)
        return made

    @pytest.fixture
    def model(self) -> Any:
        import keras

        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_keras_py_dataset(self, calls: list[str], model: Any) -> None:
        import keras

        class Batches(keras.utils.PyDataset):
            def __len__(self) -> int:
                return 4

            def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
                x = np.full((3, 2), index, np.float32)
                return x, x.sum(axis=1, keepdims=True)

        fastgen.install()
        history = model.fit(Batches(), epochs=2, verbose=0)
        assert len(history.history["loss"]) == 2
        assert "fastgen" in calls

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_keras_generators(self, calls: list[str], model: Any) -> None:
        def batches() -> Iterator[Any]:
            for number in itertools.count():
                x = np.full((3, 2), number % 5, np.float32)
                yield x, x.sum(axis=1, keepdims=True)

        fastgen.install()
        history = model.fit(batches(), steps_per_epoch=3, epochs=2, verbose=0)
        assert len(history.history["loss"]) == 2
        assert "fastgen" in calls
