"""What the benchmark of feeding a GPU times is what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stand_in_library import StandIn

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"


@pytest.mark.stand_in
@pytest.mark.parametrize("untouched", [False, True])
def test_each_copy_is_one(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, untouched: bool
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from inputs import Images
    from timing import copies

    images = Images(4, (32, 32, 3), "float32", 10, untouched=untouched)
    before = stand_in.pinned_bytes
    assert copies(images.by_fastgen(pinned=None), "/gpu:0", 10) > 0
    assert stand_in.pinned_bytes - before == 11 * images.batch_bytes  # one warms up
    for module in ("inputs", "timing"):
        sys.modules.pop(module, None)
