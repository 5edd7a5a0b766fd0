"""Carry out a plan: scheduling, building one node, checks of what nodes see, code snapshots."""
