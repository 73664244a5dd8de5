"""Discrete Key-Value Bottleneck (2207.11240)."""
