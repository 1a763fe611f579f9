"""The command line: one file a verb, which parses, calls and prints."""

from prefkit.cli.app import main

__all__ = ["main"]
