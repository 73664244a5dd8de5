"""The machine and the versions that a record names."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "encore-papers",
    "torch",
    "lightning",
    "torchmetrics",
    "kornia",
    "numpy",
    "scikit-image",
    "pillow",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine_in_words() -> str:
    """Processor, cores, memory and GPU in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    words = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        words += f", {torch.cuda.get_device_name()}"
    return words


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far, in bytes; GPU memory is added where one is used."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = peak if sys.platform == "darwin" else peak * 1024
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        total += torch.cuda.max_memory_allocated()
    return int(total)
