"""What a recipe file may hold: one model a block."""
