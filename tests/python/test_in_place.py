"""Sources that write their elements where they will stand."""

import collections
import threading
import warnings

import numpy as np
import pytest
import tensorflow as tf

import fastgen

IMAGE = tf.TensorSpec((40, 30, 3), tf.float32)  # 14 KB
LABEL = tf.TensorSpec((), tf.int64)
Pair = collections.namedtuple("Pair", "image label")


def elements(dataset):
    return [tf.nest.map_structure(lambda t: t.numpy(), element) for element in dataset]


def make(generator, signature=(IMAGE, LABEL), **options):
    return fastgen.from_generator(generator, output_signature=signature, in_place=True, **options)


def images(slots, count=10):
    for i, (image, label) in zip(range(count), slots, strict=False):
        image[...] = i
        label[...] = -i
        yield image, label


def check_images(batches, count=10):
    rows = [(image, label) for batch in batches for image, label in zip(*batch, strict=True)]
    assert [int(label) for _, label in rows] == [-i for i in range(count)]
    for i, (image, _) in enumerate(rows):
        np.testing.assert_array_equal(image, np.full(IMAGE.shape, i, np.float32))


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("buffer_size", [fastgen.AUTOTUNE, 0, 1, 3, 4, 5, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 64])
def test_batched(batch_size, buffer_size):
    check_images(elements(make(images, buffer_size=buffer_size).batch(batch_size)))


@pytest.mark.parametrize("buffer_size", [fastgen.AUTOTUNE, 0, 1, 100])
def test_one_at_a_time(buffer_size):
    delivered = elements(make(images, buffer_size=buffer_size))
    check_images([(image[np.newaxis], label[np.newaxis]) for image, label in delivered])


def test_repeated_and_batched_across_passes():
    batches = elements(make(images, kwargs={"count": 5}).repeat(3).batch(4))
    labels = np.concatenate([label for _, label in batches])
    assert labels.tolist() == [0, -1, -2, -3, -4] * 3


def test_behind_other_transformations():
    delivered = elements(make(images).map(lambda image, label: (image + 1, label)).batch(3))
    assert [float(image[0, 0, 0]) for batch in delivered for image in batch[0]] == list(
        range(1, 11)
    )


def test_nothing_is_copied():
    addresses = []

    def source(slots):
        for i, (image, _label) in zip(range(8), slots, strict=False):
            addresses.append(image.ctypes.data)
            image[...] = i
            yield image, i

    (batch,) = make(source).batch(8)
    step = IMAGE.shape.num_elements() * 4
    # An eager tensor's array interface shows where the tensor itself lies.
    start = np.asarray(memoryview(batch[0])).ctypes.data
    assert addresses == [start + i * step for i in range(8)]


@pytest.mark.parametrize(
    "signature",
    [
        {"image": IMAGE, "label": LABEL},
        Pair(IMAGE, LABEL),
        {"deep": (IMAGE, {"label": LABEL})},
    ],
    ids=["dict", "namedtuple", "nested"],
)
def test_structures(signature):
    def source(slots):
        for i, slot in zip(range(5), slots, strict=False):
            image, label = tf.nest.flatten(slot)
            image[...] = i
            label[...] = -i
            del image, label
            yield slot

    batches = elements(make(source, signature).batch(2))
    tf.nest.assert_same_structure(batches[0], signature)
    check_images([tuple(tf.nest.flatten(batch)) for batch in batches], 5)


@pytest.mark.parametrize(
    "wrap", [lambda slots: zip(range(6), slots, strict=False), lambda slots: enumerate(slots)]
)
def test_a_single_component(wrap):
    def source(slots):
        for i, slot in wrap(slots):
            if i == 6:
                return
            slot[...] = i
            yield slot

    (batch,) = elements(make(source, IMAGE).batch(10))
    assert batch[:, 0, 0, 0].tolist() == list(range(6))


def test_components_without_a_slot():
    signature = (IMAGE, tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.string))

    def source(slots):
        for i, (image, numbers, text) in zip(range(3), slots, strict=False):
            assert numbers is None and text is None
            image[...] = i
            yield image, [i, i], f"image {i}"

    (batch,) = elements(make(source, signature).batch(3))
    assert batch[1].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert batch[2].tolist() == [b"image 0", b"image 1", b"image 2"]


def test_a_slot_need_not_be_used():
    def source(slots):
        for i, (image, label) in zip(range(6), slots, strict=False):
            image[...] = -1
            label[...] = -1
            yield (np.full(IMAGE.shape, i, np.float32), -i) if i % 2 else (image + (i + 1), -i)

    check_images(elements(make(source).batch(4)), 6)


def test_the_same_slots_until_they_are_yielded():
    def source(slots):
        for i in range(4):
            first = next(slots)
            second = next(slots)
            assert first[0] is second[0]
            del first
            second[0][...] = i
            yield second[0], -i

    check_images(elements(make(source).batch(3)), 4)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_yielded_slot_is_read_only(batch_size):
    refusals = []

    def source(slots):
        for i, (image, label) in zip(range(8), slots, strict=False):
            image[...] = i
            yield image, -i
            for misuse in (
                lambda image=image: image.__setitem__(..., 99),
                lambda image=image: setattr(image.flags, "writeable", True),
                lambda image=image: image.reshape(-1).__setitem__(0, 99),
                lambda label=label: label.__setitem__(..., 99),
            ):
                with pytest.raises(ValueError) as refusal:
                    misuse()
                refusals.append(str(refusal.value))
                del refusal

    dataset = make(source)
    delivered = elements(dataset.batch(batch_size) if batch_size else dataset)
    if batch_size is None:
        delivered = [(image[np.newaxis], np.array([label])) for image, label in delivered]
    check_images(delivered, 8)
    assert refusals[0] == "assignment destination is read-only"
    assert len(refusals) == 4 * 8


def views_of(image):
    """Views that could still write when the slot itself cannot."""
    yield "slice", image[1:]
    yield "reshaped", image.reshape(-1)
    yield "transposed", image.T
    yield "of another type", image.view(np.int32)
    yield "subclass", image.view(np.recarray)
    yield "memoryview", np.frombuffer(memoryview(image), np.float32)
    yield "array interface", np.asarray(memoryview(image))


@pytest.mark.parametrize("kind", [name for name, _ in views_of(np.zeros(IMAGE.shape, np.float32))])
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("keeps_slot", [True, False])
def test_another_view_that_outlives_the_yield_changes_nothing(kind, batch_size, keeps_slot):
    kept = []

    def source(slots):
        for i, (image, _label) in zip(range(9), slots, strict=False):
            image[...] = i
            kept.append(dict(views_of(image))[kind])
            if keeps_slot:
                kept.append(image)
            yield image, -i
            for view in kept:
                if view.flags.writeable:
                    view[...] = 99

    dataset = make(source)
    with pytest.warns(RuntimeWarning, match="kept another view"):
        delivered = elements(dataset.batch(batch_size) if batch_size else dataset)
    if batch_size is None:
        delivered = [(image[np.newaxis], np.array([label])) for image, label in delivered]
    for view in kept:
        if view.flags.writeable:
            view[...] = 99
    check_images(delivered, 9)


def test_slots_kept_in_a_list_keep_their_values():
    kept = []

    def source(slots):
        for i, (image, label) in zip(range(9), slots, strict=False):
            image[...] = i
            kept.append(image)
            yield image, -i
            del label

    # A list is not told from a memoryview: these slots are copied.
    with pytest.warns(RuntimeWarning, match="kept another view"):
        check_images(elements(make(source).batch(4)), 9)
    # Memory that the slots keep must not serve anybody else.
    check_images(elements(make(images).batch(4)))
    for i, image in enumerate(kept):
        np.testing.assert_array_equal(image, np.full(IMAGE.shape, i, np.float32))


def test_a_wrong_shape_is_refused_by_numpy():
    def source(slots):
        for image, _ in slots:
            image[...] = np.zeros((3, 3))
            yield image, 0

    with pytest.raises(tf.errors.InvalidArgumentError, match="could not broadcast"):
        elements(make(source).batch(2))


def test_an_error_drops_the_batch_and_its_slots():
    kept = []

    def source(slots):
        for i, (image, label) in zip(range(9), slots, strict=False):
            image[...] = i
            if i == 4:
                kept.append(image[:])
                yield "no image", -i
                kept[0][...] = 99
            else:
                yield image, -i
            del label

    iterator = iter(make(source).batch(3))
    first = next(iterator)
    with pytest.raises(tf.errors.InvalidArgumentError):
        next(iterator)
    rest = elements(iterator)
    assert first[1].numpy().tolist() == [0, -1, -2]
    assert [label.tolist() for _, label in rest] == [[-5, -6, -7], [-8]]
    assert rest[0][0][:, 0, 0, 0].tolist() == [5, 6, 7]


def test_slots_are_for_the_generators_thread():
    problems = []

    def source(slots):
        def ask():
            try:
                next(slots)
            except RuntimeError as error:
                problems.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        yield np.zeros(IMAGE.shape, np.float32), 0

    elements(make(source))
    assert "only be asked by the thread" in problems[0]


def test_slots_end_with_their_pass():
    kept = []

    def source(slots):
        kept.append(slots)
        yield from images(slots, 2)

    elements(make(source))
    with pytest.raises(RuntimeError, match="a pass over the source that has ended"):
        next(kept[0])


def test_in_graph_mode():
    dataset = make(images).batch(5)

    @tf.function
    def total():
        result = tf.constant(0.0)
        for image, _ in dataset:
            result += tf.reduce_sum(image[:, 0, 0, 0])
        return result

    assert float(total()) == sum(range(10))


def test_what_cannot_be_written_in_place_is_refused():
    with pytest.raises(TypeError, match="keyword argument `slots`, which it does not take"):
        make(lambda: iter(()))
    with pytest.raises(ValueError, match="needs a component that can be written in place"):
        make(images, tf.TensorSpec((None,), tf.int32))
    with pytest.raises(ValueError, match="needs a component that can be written in place"):
        make(images, tf.TensorSpec((), tf.string))
    with pytest.raises(ValueError, match="give yours another name"):
        make(images, kwargs={"slots": 3})
