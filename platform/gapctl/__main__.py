"""`python -m gapctl`: the same as the `gapctl` command."""

from gapctl.cli.main import run

run()
