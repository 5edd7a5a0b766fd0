"""The command ``search``: the trials of a recipe's search block."""
