"""The data of the demo: thousands of small JPEG files, cut out of two photographs.

scikit-learn ships the photographs. Each is divided by a vertical line: crops to train with come
from the left of it, crops to test with from the right, so no pixel is in both. The label says
which photograph a crop is from. Crops differ in size, so that resizing them is real work.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from tqdm import tqdm

__all__ = ["IMAGE_SHAPE", "Crop", "crops", "load", "make_crops"]

IMAGE_SHAPE = (64, 64, 3)
TRAINING_SHARE = 0.75
SMALLEST, LARGEST = 32, 112
MANIFEST = "crops.json"


@dataclass(frozen=True)
class Crop:
    """One file, and the number of the photograph that it was cut out of."""

    path: Path
    label: int


def make_crops(folder: Path, part: str, count: int, seed: int) -> list[Crop]:
    """Return `count` crops of a part ("training" or "testing"); write the files if need be.

    The manifest is written when all files are, so a folder that has one is complete. A folder
    made for more crops serves for fewer: the first ones are the same.
    """
    place = folder / f"{part}-{SMALLEST}-to-{LARGEST}-seed-{seed}"
    manifest = place / MANIFEST
    if not manifest.exists() or len(json.loads(manifest.read_text())) < count:
        place.mkdir(parents=True, exist_ok=True)
        manifest.unlink(missing_ok=True)
        labels = write_crops(place, part, count, seed)
        manifest.write_text(json.dumps(labels))
    labels = json.loads(manifest.read_text())
    return [Crop(file_of(place, number), labels[number]) for number in range(count)]


def file_of(place: Path, number: int) -> Path:
    """Return the path of one crop."""
    return place / f"{number:05}.jpg"


def write_crops(place: Path, part: str, count: int, seed: int) -> list[int]:
    """Cut `count` random crops, save them, and return their labels."""
    regions = [region(photograph, part) for photograph in load_sample_images().images]
    choose = random.Random(f"{part} {seed}")
    labels = []
    for number in tqdm(range(count), desc=f"cutting {part} crops", unit="file"):
        label = choose.randrange(len(regions))
        image = regions[label]
        width, height = (choose.randint(SMALLEST, LARGEST) for _ in range(2))
        left = choose.randint(0, image.width - width)
        top = choose.randint(0, image.height - height)
        crop = image.crop((left, top, left + width, top + height))
        crop.save(file_of(place, number), quality=90)
        labels.append(label)
    return labels


def region(photograph: np.ndarray, part: str) -> Image.Image:
    """Return the side of a photograph (height, width, 3) that a part is cut out of."""
    border = int(photograph.shape[1] * TRAINING_SHARE)
    side = photograph[:, :border] if part == "training" else photograph[:, border:]
    return Image.fromarray(side)


def load(crop: Crop) -> np.ndarray:
    """Read one crop from its file: uint8, of shape `IMAGE_SHAPE`."""
    with Image.open(crop.path) as image:
        size = (IMAGE_SHAPE[1], IMAGE_SHAPE[0])
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def crops(files: list[Crop], epochs: int, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield image and label of every crop, `epochs` times, each time in another random order.

    This is the source of the demo: plain Python, and the same for both pipelines.
    """
    shuffle = random.Random(seed)
    for _ in range(epochs):
        for crop in shuffle.sample(files, len(files)):
            yield load(crop), crop.label
