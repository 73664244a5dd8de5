"""ARC-Encoder: learning compressed text representations for large language models (2510.20535)."""
