"""SegNet (1511.00561): labels every pixel, upsampling with the encoder's pooling positions."""
