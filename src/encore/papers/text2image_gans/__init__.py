"""A Survey and Taxonomy of Adversarial Neural Networks for Text-to-Image Synthesis (1910.09399)."""
