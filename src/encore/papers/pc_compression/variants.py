"""Models of this room beside the circuit itself, for the registry."""

from encore.papers.pc_compression.bits_back import BitsBackVAE
from encore.papers.pc_compression.integer_flow import IntegerFlow

__all__ = ["BitsBackVAE", "IntegerFlow"]
