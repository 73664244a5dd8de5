"""RelationNet++: Bridging Visual Representations for Object Detection via Transformer Decoder (2010.15831)."""
