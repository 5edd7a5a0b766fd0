"""The generated task ``reviews``, on which the quickstart runs."""
