"""What `encore fit pc_compression` takes."""

from __future__ import annotations

from encore.papers.pc_compression.method import HCLTFit

FitConfiguration = HCLTFit
