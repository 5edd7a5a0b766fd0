"""Data files as streams of rows: Parquet, CSV, TSV, JSON lines and plain lines, compressed or not."""
