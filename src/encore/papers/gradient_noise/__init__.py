"""Adding Gradient Noise Improves Learning for Very Deep Networks (1511.06807)."""
