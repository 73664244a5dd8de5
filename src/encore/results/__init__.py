"""What was measured: claims and verdicts, records, tables, plots and the report."""

from encore.results.record import json_schema

__all__ = ["json_schema"]
