"""`make bench-gpu` where there is no GPU, and the arithmetic of its profiles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"

HANG_GUARD = 300
"""Seconds; importing TensorFlow alone takes long on a busy machine."""

for needed in ("matplotlib", "tqdm"):
    pytest.importorskip(needed)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = ("--json", str(folder / "gpu.json"), "--plot", str(folder / "gpu.svg"))
    return subprocess.run(
        [sys.executable, str(BENCH), *arguments, *places],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=HANG_GUARD,
    )


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
@pytest.mark.timeout(HANG_GUARD + 30)
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    done = run(tmp_path, "--quick")
    assert done.returncode == 1
    assert "TensorFlow sees no GPU, so nothing was measured" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(HANG_GUARD + 30)
def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    done = run(tmp_path, "--device", "/cpu:0", "--quick", "--profile", str(profile))
    assert done.returncode == 0, done.stderr
    assert "the figures say nothing about a GPU" in done.stdout
    for title in ("copy of one batch (GB/s)", "a step beside the copy", "training step"):
        assert title in done.stdout
    assert "Copies from the host ran for 0.00 ms" in done.stdout
    saved = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert saved["device"] == "/cpu:0"
    assert list(saved["figures"]) == ["bandwidth", "overlap", "training"]
    for ways in saved["figures"]["training"].values():
        assert list(ways)[:2] == ["on device", "fastgen, to device"]
        assert {"copy alone", "batch made"} <= ways.keys()
        assert all(min(way["seconds"]) > 0 for way in ways.values())
    assert "<svg" in (tmp_path / "gpu.svg").read_text(encoding="utf-8")


def test_overlap_is_the_time_in_which_a_stream_copies_and_another_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from profiles import Overlap, measure_overlap
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()

    def add(
        plane_name: str, line_name: str, start_ns: int, events: list[tuple[str, int, int]]
    ) -> None:
        plane = next((p for p in space.planes if p.name == plane_name), None)
        if plane is None:
            plane = space.planes.add(name=plane_name)
        line = plane.lines.add(name=line_name, timestamp_ns=start_ns)
        for name, offset_ps, duration_ps in events:
            number = len(plane.event_metadata) + 1
            plane.event_metadata[number].name = name
            line.events.add(metadata_id=number, offset_ps=offset_ps, duration_ps=duration_ps)

    gpu = "/device:GPU:0"
    add(
        gpu,
        "Stream #1(Compute)",
        1,
        [("conv", 0, 4000), ("relu", 3000, 3000), ("gemm", 9000, 1000)],
    )
    add(gpu, "Stream #2(MemcpyH2D)", 1, [("MemcpyH2D", 5000, 2000), ("MemcpyH2D", 8000, 3000)])
    add(gpu, "Stream #3(MemcpyD2H)", 1, [("MemcpyD2H", 0, 20000), ("Memset", 0, 20000)])
    add(gpu, "XLA Ops", 0, [("the same in other words", 0, 90000)])
    add("/host:CPU", "Stream of the host", 0, [("busy", 0, 90000)])
    found = measure_overlap(space)
    assert found == Overlap(copying=5000, computing=7000, both=2000)
    assert found.share == 0.4
    assert measure_overlap(xplane_pb2.XSpace()).share == 0
