"""What SegNet is compared with: the decoders of Table 1, and the networks of Tables 3 and 6."""

from encore.papers.segnet.baselines import benchmark, decoders

__all__ = ["benchmark", "decoders"]
