"""HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions (2207.14284)."""
