"""Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling (2301.03580)."""
