"""The Principles of Deep Learning Theory (2106.10165)."""
