"""`python -m app`: the command `tricklab` where no script is installed."""

from app.cli import main

main()
