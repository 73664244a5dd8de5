"""HNeRV: A Hybrid Neural Representation for Videos (2304.02633)."""
