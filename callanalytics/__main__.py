"""`python -m callanalytics` is the command `callanalytics`."""

from jobs.cli.main import main

main()
