"""Values into tensors: for each value and each dtype, what TensorFlow makes of it, bit for bit.

One source yields every value of the table; values that cannot be converted are errors in their
place and do not end it, so that one dataset a signature is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fastgen
from conversion_values import VALUES
from differential import (
    Failure,
    Value,
    assert_same,
    freeze,
    observe,
    shape_of,
    yielding,
)

# Casts that lose something warn in NumPy; here they are the subject.
pytestmark = pytest.mark.filterwarnings("ignore")

EXPERIMENTAL = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e4m3b11fnuz",
    "float8_e5m2fnuz",
    "float4_e2m1fn",
    "int2",
    "uint2",
    "int4",
    "uint4",
)
DTYPES: dict[str, tf.DType] = {
    dtype.name: dtype
    for dtype in (
        *(tf.bool, tf.string),
        *(tf.int8, tf.int16, tf.int32, tf.int64),
        *(tf.uint8, tf.uint16, tf.uint32, tf.uint64),
        *(tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128),
        *(tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32),
        *(getattr(tf.dtypes.experimental, name) for name in EXPERIMENTAL),
    )
}
EXACT_DTYPES = ["bool", "string", "int32", "int64", "uint8", "float32", "bfloat16", "complex64"]

# TensorFlow itself ends with a segmentation fault where it makes tensors of these; see
# TestWhereTensorFlowCrashes for what fastgen does.
CRASHING_TEXT = ("lone surrogate",)
CRASHING_UINT64 = ("-1", "-129", "-2**31", "-2**63", "2**64", "2**70", "-2**70", "10**400")
# TensorFlow loses these where it makes tensors of Python numbers: 0.0 and -0.0 are one to it, and
# denormal numbers are flushed to zero. TestWhatUsersRelyOn has what fastgen does.
INEXACT = ("-0.0", "5e-324")


def test_table_is_large_enough() -> None:
    assert len(VALUES) > 200
    assert set(CRASHING_TEXT + CRASHING_UINT64) <= VALUES.keys()


class TestEveryValueWithEveryDtype:
    """The table, by what the signature says of the shape."""

    def check(
        self,
        pack: Callable[[Any], Any] = lambda value: value,
        skipped: Sequence[str] = (),
        via: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
        **signature: Any,
    ) -> None:
        names = [name for name in VALUES if name not in skipped]

        def source() -> Iterator[Any]:
            for name in names:
                yield pack(VALUES[name])

        steps = assert_same(source, names=dict(enumerate(names)), via=via, **signature)
        assert len(steps) == len(names) + 1

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_rank_0(self, dtype: str) -> None:
        self.check(output_signature=tf.TensorSpec((), DTYPES[dtype]))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_unknown_rank_inside_a_structure(self, dtype: str) -> None:
        self.check(lambda value: (value,), output_types=(DTYPES[dtype],))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_of_unknown_rank_alone(self, dtype: str) -> None:
        skipped = INEXACT + CRASHING_TEXT + (CRASHING_UINT64 if dtype == "uint64" else ())
        self.check(skipped=skipped, output_types=DTYPES[dtype])

    @pytest.mark.parametrize("dtype", EXACT_DTYPES)
    def test_of_rank_1(self, dtype: str) -> None:
        self.check(output_signature=tf.TensorSpec((None,), DTYPES[dtype]))

    @pytest.mark.parametrize("dtype", EXACT_DTYPES)
    def test_of_a_known_shape(self, dtype: str) -> None:
        self.check(output_signature=tf.TensorSpec((3, 4), DTYPES[dtype]))

    @pytest.mark.parametrize("dtype", EXACT_DTYPES)
    def test_with_a_neighbour(self, dtype: str) -> None:
        self.check(
            lambda value: {"value": value, "place": 3},
            output_signature={
                "place": tf.TensorSpec((), tf.int64),
                "value": tf.TensorSpec(None, DTYPES[dtype]),
            },
        )

    @pytest.mark.parametrize("dtype", EXACT_DTYPES)
    @pytest.mark.parametrize("shape", [(), (None,)])
    def test_in_batches_of_one(self, dtype: str, shape: tuple[None, ...]) -> None:
        self.check(via=lambda ds: ds.batch(1), output_signature=tf.TensorSpec(shape, DTYPES[dtype]))


class TestWhereTensorFlowCrashes:
    """fastgen reports an error in the place of the value, and goes on."""

    def check(self, run_script: Callable[..., str], values: str, dtype: str) -> None:
        printed = run_script(
            f"""
            import tensorflow as tf
            import fastgen

            iterator = iter(fastgen.from_generator(lambda: {values}, output_types={dtype}))
            for _ in {values}:
                try:
                    print("value", next(iterator).numpy())
                except tf.errors.InvalidArgumentError as error:
                    print("refused")
                except tf.errors.OpError as error:
                    print("failed", type(error).__name__)
            print("end", next(iterator, None))
            """
        )
        *steps, end = printed.split("\n")[:-1]
        assert end == "end None"
        assert steps[0].startswith("value")
        assert steps[-1].startswith("value")
        assert all(step.startswith(("refused", "failed")) for step in steps[1:-1])

    def test_a_lone_surrogate(self, run_script: Callable[..., str]) -> None:
        self.check(run_script, r"['a', '\udc80', 'b']", "tf.string")

    def test_numbers_beyond_uint64(self, run_script: Callable[..., str]) -> None:
        self.check(run_script, "[1, -1, 2**64, -(2**70), 10**400, 2]", "tf.uint64")


class TestWhatUsersRelyOn:
    """The rules that people know, spelled out."""

    @pytest.mark.parametrize(
        ("value", "dtype", "expected"),
        [
            (2**40, tf.int32, 0),
            (2**32 + 5, tf.int32, 5),
            (256, tf.uint8, 0),
            (-1, tf.uint8, 255),
            (1.9, tf.int32, 1),
            (-1.9, tf.int32, -1),
            (2, tf.bool, True),
            (True, tf.float32, 1.0),
            ("é", tf.string, "é".encode()),
            (b"a\0\0", tf.string, b"a\0\0"),
            (np.array(b"a\0\0"), tf.string, b"a"),
        ],
    )
    def test_casts(self, from_generator: Any, value: Any, dtype: tf.DType, expected: Any) -> None:
        (element,) = from_generator(
            yielding((value,)), output_signature=(tf.TensorSpec((), dtype),)
        )
        assert element[0].numpy() == expected

    @pytest.mark.parametrize(
        "signature", [{"output_types": tf.float64}, {"output_types": (tf.float64,)}]
    )
    def test_every_bit_of_a_float_counts(self, signature: dict[str, Any]) -> None:
        numbers = [0.0, -0.0, 5e-324, -5e-324, 1e-310, 0.1, float("nan")]
        alone = not isinstance(signature["output_types"], tuple)
        elements = numbers if alone else [(number,) for number in numbers]
        dataset = fastgen.from_generator(yielding(*elements), **signature)
        got = [element.numpy() if alone else element[0].numpy() for element in dataset]
        assert np.array(got).tobytes() == np.array(numbers).tobytes()

    def test_bytes_of_every_length(self, from_generator: Any) -> None:
        texts = [bytes(range(256)) * 300 + b"\0" for _ in range(3)]
        texts += [b"x" * length for length in range(70)]
        dataset = from_generator(yielding(*texts), output_signature=tf.TensorSpec((), tf.string))
        assert [element.numpy() for element in dataset] == texts


class TestFreshArrays:
    """Arrays of which the source keeps no reference, so that fastgen may hand them over."""

    @pytest.mark.parametrize("dtype", ["int32", "uint8", "float32", "float64", "complex64", "bool"])
    @pytest.mark.parametrize("wanted", ["float32", "int32"])
    def test_keep_their_values(self, dtype: str, wanted: str) -> None:
        sizes = [0, 1, 2, 15, 16, 17, 63, 64, 1000, 1024, 5000, 32_768, 100_003]

        def source() -> Iterator[Any]:
            for size in sizes:
                yield (np.arange(size) % 7).astype(dtype)

        steps = assert_same(source, output_signature=tf.TensorSpec((None,), DTYPES[wanted]))
        assert len(steps) == len(sizes) + 1

    def test_of_other_orders(self) -> None:
        def source() -> Iterator[Any]:
            grid = np.arange(60_000, dtype=np.float32)
            yield grid.reshape(200, 300) + 1
            yield (grid + 2).reshape(300, 200).T
            yield np.asfortranarray(grid.reshape(200, 300) + 3)
            yield (grid + 4).reshape(200, 300)[::-1]
            yield (grid + 5).astype(">f4").reshape(200, 300)
            yield np.ascontiguousarray(grid.reshape(200, 300)[:, ::-1])

        steps = assert_same(source, output_signature=tf.TensorSpec((200, 300), tf.float32))
        assert shape_of(steps) == "vvvvvve"

    def test_may_be_held_on_to_by_someone_else(self) -> None:
        """TensorFlow shares the memory when it happens to be aligned; fastgen must not."""
        kept: list[Any] = []

        def source() -> Iterator[Any]:
            for place in range(20):
                array = np.full((100, 100), place, np.float32)
                kept.append([array, memoryview(array), array[1:], array.T][place % 4])
                yield array
                del array
                np.asarray(kept[-1])[...] = -1

        dataset = fastgen.from_generator(
            source, output_signature=tf.TensorSpec((100, 100), tf.float32)
        )
        elements = list(dataset)
        for place, element in enumerate(elements):
            np.testing.assert_array_equal(element.numpy(), place)

    def test_stay_whole_after_the_dataset_is_gone(
        self, from_generator: Any, collect_garbage: Callable[[], None]
    ) -> None:
        def source() -> Iterator[Any]:
            for place in range(50):
                yield np.full((300, 300), place, np.float32)

        dataset = from_generator(source, output_signature=tf.TensorSpec((300, 300), tf.float32))
        elements = list(dataset)
        del dataset
        collect_garbage()
        for place, element in enumerate(elements):
            np.testing.assert_array_equal(element.numpy(), place)


class TestStrict:
    """`strict=True`: a value that the dtype cannot hold is an error, not another value."""

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            pytest.param(2**40, tf.int32, id="2**40 to int32"),
            pytest.param(-(2**40), tf.int32, id="-2**40 to int32"),
            pytest.param(256, tf.uint8, id="256 to uint8"),
            pytest.param(-1, tf.uint8, id="-1 to uint8"),
            pytest.param(-1, tf.uint64, id="-1 to uint64"),
            pytest.param(128, tf.int8, id="128 to int8"),
            pytest.param(1.9, tf.int32, id="1.9 to int32"),
            pytest.param(float("nan"), tf.int32, id="nan to int32"),
            pytest.param(float("inf"), tf.int64, id="inf to int64"),
            pytest.param(np.int64(2**40), tf.int32, id="np.int64 to int32"),
            pytest.param(np.float64(1.9), tf.int64, id="np.float64 to int64"),
            pytest.param(np.array(300), tf.uint8, id="array to uint8"),
            pytest.param(1 + 2j, tf.float32, id="complex to float32"),
        ],
    )
    def test_refuses(self, value: Any, dtype: tf.DType) -> None:
        self.check_refused(value, dtype, output_signature=tf.TensorSpec((), dtype))

    @pytest.mark.parametrize(
        ("value", "dtype"), [(2**40, tf.int32), (256, tf.uint8), (1.9, tf.int32)]
    )
    def test_refuses_on_the_path_of_unknown_rank(self, value: Any, dtype: tf.DType) -> None:
        self.check_refused(value, dtype, output_types=dtype)

    def check_refused(self, value: Any, dtype: tf.DType, **signature: Any) -> None:
        dataset = fastgen.from_generator(yielding(1, value, 2), strict=True, **signature)
        first, refused, last, _ = observe(dataset)
        assert isinstance(first, Value)
        assert isinstance(last, Value)
        assert isinstance(refused, Failure)
        assert dtype.name in refused.text
        assert re.search(r"element 1\b", refused.text)

    @pytest.mark.parametrize(
        "array",
        [
            pytest.param(np.array([1, 2**40]), id="int64"),
            pytest.param(np.array([1.0, 1.5]), id="float64"),
            pytest.param(np.array([1, -(2**31) - 1]), id="int64, just too small"),
            pytest.param([1, 2**31], id="list"),
        ],
    )
    def test_refuses_arrays_of_which_one_item_does_not_fit(self, array: Any) -> None:
        dataset = fastgen.from_generator(
            yielding([1], array, [2]),
            output_signature=tf.TensorSpec((None,), tf.int32),
            strict=True,
        )
        assert shape_of(observe(dataset)) == "vfve"

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            (2**31 - 1, tf.int32),
            (-(2**31), tf.int32),
            (255, tf.uint8),
            (0, tf.uint8),
            (2**64 - 1, tf.uint64),
            (0.5, tf.float32),
            (0.1, tf.float32),
            (3, tf.float32),
            (True, tf.int32),
            (np.int64(7), tf.int32),
            (np.array(7), tf.uint8),
            ("é", tf.string),
            (1.5, tf.bfloat16),
            (float("nan"), tf.float32),
            (float("inf"), tf.float32),
            (1, tf.complex64),
        ],
    )
    def test_accepts_what_fits(self, value: Any, dtype: tf.DType) -> None:
        signature = tf.TensorSpec((), dtype)
        (strict,) = fastgen.from_generator(yielding(value), output_signature=signature, strict=True)
        (lenient,) = fastgen.from_generator(yielding(value), output_signature=signature)
        assert freeze(strict) == freeze(lenient)

    def test_is_off_unless_asked_for(self) -> None:
        dataset = fastgen.from_generator(
            yielding(256), output_signature=tf.TensorSpec((), tf.uint8)
        )
        assert [int(element) for element in dataset] == [0]
