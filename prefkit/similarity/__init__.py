"""When two texts count as the same: normalisation now; shingles and near-duplicates later."""

from prefkit.similarity.normalise import normalised

__all__ = ["normalised"]
