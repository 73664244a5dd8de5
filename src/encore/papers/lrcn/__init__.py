"""Long-term Recurrent Convolutional Networks for Visual Recognition and Description (1411.4389)."""
