"""Generators of pages in ``docs/``: development tools, not part of the package."""
