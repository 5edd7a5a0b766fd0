"""``python -m pipeline`` is ``stillhouse``."""

from pipeline.cli.main import main

main()
