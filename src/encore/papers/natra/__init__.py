"""Robust Training Using Natural Transformation (2105.04070)."""
