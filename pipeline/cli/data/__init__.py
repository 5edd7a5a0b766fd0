"""Commands that begin with data instead of a recipe."""
