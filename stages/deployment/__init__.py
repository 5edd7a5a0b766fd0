"""What is done with a finished model: predictions for the rows of a file, its export, and its latency."""
