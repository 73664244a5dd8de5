"""The verbs, in Python as on the command line: `run`, `fit`, `predict`, `evaluate`, `compare`."""
