"""Records, ids, errors, registries, randomness and safe files: the standard library only."""
