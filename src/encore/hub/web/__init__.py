"""The web process: pages, forms, feeds and the JSON API."""
