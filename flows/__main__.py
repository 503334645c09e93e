"""`python -m flows` is `sms`."""

from flows.cli import main

main()
