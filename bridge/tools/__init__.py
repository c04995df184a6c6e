"""Tools for people, reached through the command line only."""
