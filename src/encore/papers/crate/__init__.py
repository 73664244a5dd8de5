"""White-Box Transformers via Sparse Rate Reduction: Compression Is All There Is? (2311.13110)."""
