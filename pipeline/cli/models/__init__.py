"""Commands on finished models: predictions, export, latency."""
