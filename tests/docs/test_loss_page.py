"""docs/losses.md is what the registry says; ``python tools/loss_page.py`` writes it."""

import importlib.util
from pathlib import Path

from prefkit.training.losses import losses

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_registry_says():
    spec = importlib.util.spec_from_file_location("loss_page", ROOT / "tools" / "loss_page.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    assert written == tool.page()
    for name in losses.names():
        assert f"\n### {name}\n" in written
