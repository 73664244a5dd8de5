"""What was measured: claims and verdicts, records, tables, plots and the report."""
