"""What a codec's work came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CodecReport:
    """One compression or decompression.

    Attributes:
        file: the compressed file.
        num_bytes: of it.
        num_values: that were coded: pixels times channels, numbers of arrays.
        num_samples: they belong to.
        seconds: it took.
    """

    file: Path
    num_bytes: int
    num_values: int
    num_samples: int
    seconds: float

    @property
    def bits_per_dimension(self) -> float:
        """Bits of the whole file for each coded value; the model's own are not among them."""
        return 8 * self.num_bytes / max(self.num_values, 1)

    @property
    def megabytes_per_second(self) -> float:
        """10⁶ coded values a second: a byte each, where they have 8 bits."""
        return self.num_values / 1e6 / max(self.seconds, 1e-9)

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "file": str(self.file),
            "bytes": self.num_bytes,
            "samples": self.num_samples,
            "values": self.num_values,
            "bits_per_dimension": self.bits_per_dimension,
            "seconds": round(self.seconds, 3),
            "megabytes_per_second": round(self.megabytes_per_second, 3),
        }
