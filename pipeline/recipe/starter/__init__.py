"""A first recipe for a data file: settings for its size, and the commented YAML."""
