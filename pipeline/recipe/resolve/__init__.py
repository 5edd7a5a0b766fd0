"""Resolving: the blocks of a recipe file -> the values that the pipeline works from."""
