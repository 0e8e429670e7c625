"""`python -m contralign` is the command `contralign`."""

from contralign.cli.main import main

main()
