"""Where papers come from: arXiv, Hugging Face, bibliographies, a folder of JSON, and Encore's own cards."""
