"""What a setting is: how it is found, and what its text may be.

Must know: the environment that it is given, and files of secrets. Must not know: which settings there are.
"""
