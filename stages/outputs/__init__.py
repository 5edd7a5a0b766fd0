"""The teacher-output store: Parquet shards that any tool can read. ``docs/store.md`` is its specification."""
