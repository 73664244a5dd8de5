"""Backbones that belong to no paper: convnets and transformers of the Hugging Face library `transformers`."""
