"""Is Pre-training Applicable to the Decoder for Dense Prediction? (2503.07637)."""
