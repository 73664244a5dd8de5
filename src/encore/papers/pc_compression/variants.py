"""Models of this room beside the circuit itself, for the registry."""

from encore.papers.pc_compression.bits_back import BitsBackVAE

__all__ = ["BitsBackVAE"]
