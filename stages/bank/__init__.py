"""Unlabelled texts: read, cleaned and deduplicated."""
