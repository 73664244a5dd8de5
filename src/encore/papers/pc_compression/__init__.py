"""Lossless Compression with Probabilistic Circuits (2111.11632)."""
