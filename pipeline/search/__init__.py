"""The search for good settings of a method: proposals of values, their trainings as nodes, and what these came to."""
