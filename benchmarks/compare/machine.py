"""What a reader of the figures has to know: the machine, the versions, the commit."""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["build", "commit", "machine", "versions"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "numpy": ("numpy",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "fastgen": ("fastgen",),
    "keras": ("keras",),
    "torch": ("torch",),
    "grain": ("grain",),
}


def machine() -> dict[str, Any]:
    """The processor, its cores, the memory, and how busy it is now."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load_average": list(os.getloadavg()),
        "system": platform.platform(),
    }


def versions() -> dict[str, str | None]:
    """The versions of all that is compared; None for what is not installed."""
    return {"python": platform.python_version()} | {
        name: next(filter(None, map(_version, packages)), None)
        for name, packages in PACKAGES.items()
    }


def build() -> dict[str, str]:
    """The libraries of the fastgen that is measured, with their digests: it need not be of `commit`."""
    package = importlib.util.find_spec("fastgen")
    assert package and package.origin
    return {
        library.name: hashlib.sha256(library.read_bytes()).hexdigest()
        for library in sorted(Path(package.origin).parent.glob("*.so"))
    }


def commit() -> dict[str, Any]:
    """The commit of this tree; `dirty` when files differ from it. Both None outside of Git."""
    try:
        changes = _git("status", "--porcelain")
        return {"hash": _git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return {"hash": None, "dirty": None}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
