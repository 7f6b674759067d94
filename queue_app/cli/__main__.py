"""`python -m queue_app.cli` is `tuneyard`."""

from queue_app.cli import main

main()
