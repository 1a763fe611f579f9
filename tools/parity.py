"""Write docs/parity.md: prefkit's losses beside TRL 1.16.0's on the same numbers.

    .venv/bin/python tools/parity.py       needs the extras dev and oracles; takes a minute

The grid is the one of tests/training/oracle.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the grid on a tiny model and write the page."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_model import build_tiny_model
    from training.oracle.parity_grid import dpo_cases, dpo_outcome, dpo_trainer
    from training.oracle.parity_others import kto_trainer, outcomes
    from training.oracle.parity_report import page
    from training.oracle.parity_trajectories import make_stage, trajectories

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = build_tiny_model(work / "model")
        trainer = dpo_trainer(model, work / "dpo")
        found = [dpo_outcome(trainer, case) for case in dpo_cases()]
        found += outcomes(kto_trainer(model, work / "kto"))
        paths = list(trajectories(make_stage(model, work / "trajectories")))
    (ROOT / "docs" / "parity.md").write_text(page(found, paths), encoding="utf-8")
    sys.stdout.write(f"docs/parity.md: {len(found)} cases, {len(paths)} trajectories\n")


if __name__ == "__main__":
    main()
