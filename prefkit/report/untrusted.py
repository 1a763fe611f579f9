"""Text of models and files, made safe to look at. Escaping is the template's business."""

from __future__ import annotations

import unicodedata

BIDI_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def visible(text: str) -> str:
    """Text that cannot steer its page: controls and direction overrides become a visible mark.

    Line ends and tabs stay, and so do the joiners of emoji and Indic scripts.
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t") or c in BIDI_OVERRIDES
        else c
        for c in text.replace("\r\n", "\n")
    )
