"""`make bench` at its smallest: the table, the figures as JSON, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "compare"

HANG_GUARD = 300
"""Seconds; importing TensorFlow alone takes long on a busy machine."""

for needed in ("matplotlib", "tqdm"):
    pytest.importorskip(needed)


def run_bench(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the comparison with everything that it writes in `folder`."""
    places = ("--json", str(folder / "bench.json"), "--plot", str(folder / "bench.svg"))
    return subprocess.run(
        [sys.executable, str(BENCH), *arguments, *places],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=HANG_GUARD,
    )


@pytest.mark.timeout(HANG_GUARD + 30)
def test_one_row_is_measured_printed_plotted_and_saved(tmp_path: Path) -> None:
    done = run_bench("--quick", "--no-others", "--only", "scalar", folder=tmp_path)
    assert done.returncode == 0, done.stderr

    lines = done.stdout.splitlines()
    header = next(line for line in lines if line.startswith("row "))
    assert header.split() == [
        *("row", "tf.data", "fastgen", "slices", "raw", "loop", "limit"),
        *("spread", "tf.data/fastgen", "aims"),
    ]
    row = lines[lines.index(header) + 1]
    assert row.startswith("scalar ")
    assert "600x as fast as tf.data (" in row

    saved = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert saved["machine"].keys() >= {"cpu", "cores", "memory_bytes", "load_average"}
    assert saved["versions"].keys() >= {"python", "numpy", "tensorflow", "fastgen"}
    assert saved["commit"].keys() == {"hash", "dirty"}
    assert any(name.startswith("_native") for name in saved["build"])
    assert saved["options"] == {"quick": True, "rounds": 3, "rows": ["scalar"]}
    assert list(saved["rows"]) == ["scalar"]
    systems = saved["rows"]["scalar"]["systems"]
    assert systems.keys() == {"tf.data", "fastgen", "from_tensor_slices", "raw", "loop"}
    for reading in systems.values():
        assert len(reading["rounds"]) == 3
        assert min(reading["rounds"]) <= reading["median"] <= max(reading["rounds"])
        assert reading["spread"] >= 1
    assert all(isinstance(aim["reached"], bool) for aim in saved["rows"]["scalar"]["aims"])

    assert "<svg" in (tmp_path / "bench.svg").read_text(encoding="utf-8")


@pytest.mark.timeout(HANG_GUARD + 30)
def test_an_unknown_row_is_refused_with_the_list_of_rows(tmp_path: Path) -> None:
    done = run_bench("--only", "scalar", "no-such-row", folder=tmp_path)
    assert done.returncode == 2
    assert "no row no-such-row; there are: scalar, shuffled, " in done.stderr
    assert "fairness:loop" in done.stderr
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.timeout(HANG_GUARD + 30)
def test_a_row_that_this_fastgen_cannot_do_is_skipped_with_the_reason(tmp_path: Path) -> None:
    """Rows say of a missing argument what is missing, instead of failing in the middle."""
    script = f"""
import runpy, sys
import fastgen
whole = fastgen.from_generator
def older(generator, output_signature=None):
    return whole(generator, output_signature=output_signature)
fastgen.from_generator = older
sys.argv = ["bench", "--quick", "--only", "in-place",
            "--json", {str(tmp_path / "bench.json")!r}, "--plot", {str(tmp_path / "bench.svg")!r}]
runpy.run_path({str(BENCH)!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG_GUARD,
    )
    assert done.returncode == 0, done.stderr
    assert "skipped: this fastgen.from_generator has no argument `in_place`" in done.stdout
    saved = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert saved["rows"]["in-place"]["systems"] == {}
    assert saved["rows"]["in-place"]["skipped"]
