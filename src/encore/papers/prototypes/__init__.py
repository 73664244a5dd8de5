"""Deep Learning for Case-Based Reasoning through Prototypes: A Neural Network that Explains … (1710.04806)."""
