"""Prompts and demo material that ship with prefkit; provenance in data/README.md."""
