"""Interpreting Black-box Machine Learning Models for High Dimensional Datasets (2208.13405)."""
