"""Results as rows, and rows as a table, JSON, CSV or HTML."""
