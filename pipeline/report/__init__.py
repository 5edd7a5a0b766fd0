"""The results of a recipe as rows, and the rows as a table, JSON, CSV or HTML."""
