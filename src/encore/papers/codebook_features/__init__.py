"""Codebook Features: Sparse and Discrete Interpretability for Neural Networks (2310.17230)."""
