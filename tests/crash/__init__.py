"""Crashes and races by enumeration: see `__main__`."""
