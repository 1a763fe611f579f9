"""A model as prefkit sees it: where its files are, how it is loaded, how text becomes tokens, and
how likely it finds an answer. Nothing here loads torch at import."""
