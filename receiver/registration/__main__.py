"""`python -m receiver.registration`: the registration script for those who know it by that name."""

from receiver.command_line import prepare
from receiver.registration.cli import register

prepare("register")
register(prog_name="python -m receiver.registration")
