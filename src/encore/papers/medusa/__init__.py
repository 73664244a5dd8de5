"""MEDUSA: Multi-scale Encoder-Decoder Self-Attention … for Medical Image Analysis (2110.06063)."""
