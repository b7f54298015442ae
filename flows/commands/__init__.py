"""Commands: the groups of the command line."""
