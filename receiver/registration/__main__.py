"""`python -m receiver.registration`: the registration script for those who know it by that name."""

from receiver.registration.cli import register

register(prog_name="python -m receiver.registration")
