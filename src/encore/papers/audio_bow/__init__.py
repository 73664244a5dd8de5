"""Attention is All You Need? Good Embeddings with Statistics are enough (2110.03183)."""
