from pathlib import Path

from store_cases import pairs

from prefkit.core.files import write_json
from prefkit.core.records import Comparison
from prefkit.formats.tables import write_records
from prefkit.rounds.project import Project, init_workspace
from prefkit.rounds.status import workspace_status
from prefkit.store import VoteStore
from prefkit.workspace import run_stage


def test_people_are_sent_to_vote_only_once_there_is_something_to_vote_on(tmp_path: Path) -> None:
    workspace = init_workspace(tmp_path / "ws", Project(), [{"prompt": "q"}])
    folder, comparisons = workspace.round_path(1), pairs(3)

    def sample() -> dict[str, int]:
        write_records(folder / "comparisons.parquet", comparisons, Comparison)
        write_json(folder / "prompts.json", {})
        return {}

    for stage, made in (("prompts", "prompts.json"), ("generate", "comparisons.parquet")):
        run_stage(folder, stage, inputs={}, config={}, outputs=(made,), work=sample)
    assert workspace_status(workspace, shown_as="ws")["next"] == "prefkit loop run ws"
    with VoteStore.open(workspace.store_path) as store:
        store.add(comparisons)
    assert workspace_status(workspace, shown_as="ws")["next"].startswith("prefkit annotate ws")
