"""Rethinking Image Inpainting via a Mutual Encoder-Decoder with Feature Equalizations (2007.06929)."""
