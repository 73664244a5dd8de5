"""Networks that take rows of tables."""
