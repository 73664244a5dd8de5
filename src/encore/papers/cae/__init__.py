"""Context Autoencoder for Self-Supervised Representation Learning (2202.03026)."""
