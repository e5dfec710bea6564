"""`python -m context_telemetry`: the command line, where the script is not on the path."""

from context_telemetry.cli import main

main()
