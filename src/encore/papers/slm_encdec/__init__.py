"""Return of the Encoder: Maximizing Parameter Efficiency for SLMs (2501.16273)."""
