"""Candidate tables: which texts stand beside each row of train, and what made them."""
