"""Daily Papers: feed, search, votes, comments, digests by mail, and runs of the papers that Encore performs.

The web process never loads torch: what needs it (runs, sentence embeddings) happens in processes of its own.
"""
