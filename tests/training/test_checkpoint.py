"""What a checkpoint gives back lies where the optimiser and the generators look for it."""

import pytest
import torch

from prefkit.training.checkpoint import State
from prefkit.training.masters import Masters


def state_on(device):
    masters = Masters(torch.nn.Linear(3, 2, device=device))
    return State(masters, torch.optim.AdamW(list(masters.values.values())))


def test_all_of_the_optimisers_state_goes_back_to_the_device_it_trains_on():
    """Fused AdamW reads its count of steps in the kernel: one on the host would be no address
    there. The device "meta" stands for one that is not the host's."""
    saved = state_on("cpu")
    saved.masters.zero()
    saved.masters.offer()
    saved.optimizer.step()
    restored = state_on("meta")
    restored.load(saved.tensors())
    kept = [v for state in restored.optimizer.state.values() for v in state.values()]
    assert len(kept) == 2 * 3
    assert {value.device.type for value in kept} == {"meta"}
    assert restored.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_killed_run_goes_on(tiny_model_dir, pairs, tmp_path, monkeypatch):
    from prefkit.training import TrainSettings, train
    from prefkit.training import checkpoint as checkpoints

    settings = TrainSettings(
        dtype="float32", device="cuda", trackers=[], reference_store="none", checkpoint_every=1,
        max_steps=3,
    )  # fmt: skip
    whole = train(str(tiny_model_dir), pairs, settings, out=tmp_path / "a")
    save = checkpoints.save

    def save_and_die(*args, **kwargs):
        save(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(str(tiny_model_dir), pairs, settings, out=tmp_path / "b")
    monkeypatch.undo()
    again = train(str(tiny_model_dir), pairs, settings, out=tmp_path / "b")
    assert again.resumed_from == 1
    assert again.last_loss == pytest.approx(whole.last_loss, abs=1e-4)
