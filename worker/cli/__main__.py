"""``python -m worker.cli`` is the ``trunkline`` command."""

from worker.cli import main

main()
