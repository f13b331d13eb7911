"""The demo runs at its quickest, compares both pipelines, and saves its plot."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"

HANG_GUARD = 500
"""Seconds; two trainings on a busy machine, and a generous margin."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

for needed in ("keras", "matplotlib", "PIL", "sklearn", "tqdm"):
    pytest.importorskip(needed)


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo with everything that it writes below `folder`."""
    return subprocess.run(
        [
            *(sys.executable, str(DEMO), "--quick"),
            *("--folder", str(folder / "crops")),
            *("--plot", str(folder / "demo.png")),
        ],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=HANG_GUARD,
    )


@pytest.mark.timeout(2 * HANG_GUARD + 30)
def test_demo_compares_both_pipelines_and_reuses_its_crops(tmp_path: Path) -> None:
    first = run_demo(tmp_path)
    assert first.returncode == 0, first.stderr
    rows = {line.split()[0]: line.split()[1:] for line in first.stdout.splitlines() if line.strip()}
    assert rows["pipeline"] == ["elements/s", "step", "(ms)", "waiting", "loss", "accuracy"]
    for name in ("tf.data", "fastgen"):
        assert re.fullmatch(r"\S+ \S+ \S+% \S+ \S+%", " ".join(rows[name]))
    assert (tmp_path / "demo.png").read_bytes().startswith(PNG_SIGNATURE)
    assert "cutting training crops" in first.stderr

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "crops").rglob("*.jpg")}
    assert made
    second = run_demo(tmp_path)
    assert second.returncode == 0, second.stderr
    assert "cutting" not in second.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == made
