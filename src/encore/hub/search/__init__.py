"""Search by words and by meaning, similar papers, and recommendations."""
