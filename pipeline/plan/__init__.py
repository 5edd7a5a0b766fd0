"""Graph and storage -> a plan: what is reused, what is built and why, with rows, bytes, time and resources."""
