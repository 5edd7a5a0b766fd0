"""From the blocks of a recipe file to the values that the pipeline works from."""
