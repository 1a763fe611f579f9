"""A step's gradient is one number whatever it is computed from: packs, layouts, order, memory."""

import random
from dataclasses import replace

import pytest
import torch

from prefkit.core.errors import EnvironmentFault, TrainingError
from prefkit.core.records import Message, Prompt, TrainRow
from prefkit.policy.layout import Layout
from prefkit.policy.load import load_policy
from prefkit.policy.logp_store import logp_keys
from prefkit.policy.resolve import resolve_model
from prefkit.policy.trees import Tree
from prefkit.training.adapter import prepare_model
from prefkit.training.gradient import Gradient, Part
from prefkit.training.lanes import Lanes
from prefkit.training.losses import losses
from prefkit.training.masters import Masters
from prefkit.training.objective import Objective, Term, make_objective
from prefkit.training.packs import size_of
from prefkit.training.plan import with_mismatches
from prefkit.training.ranks import Ranks
from prefkit.training.rows import encode_rows
from prefkit.training.scorer import Scorer, checkpoint_activations
from prefkit.training.settings import TrainSettings

TREE = Layout("tree", "sdpa", "test")
PADDED = Layout("padded", "sdpa", "test")
EVERYTHING = 100_000
WORDS = ("fox", "dog", "sea", "sun", "moon", "quick", "lazy", "brown", "short")
LANGUAGE = [name for name in losses.names() if not losses.get(name).rewards]


def answer(rng):
    return (Message.of("assistant", " ".join(rng.choices(WORDS, k=rng.randint(1, 8)))),)


def train_rows(target, n=7):
    rng = random.Random(3)
    found = []
    for index in range(n):
        prompt = Prompt.make([Message.of("user", " ".join(rng.choices(WORDS, k=1 + index)))])
        count = {"pair": 2, "ranking": rng.randint(2, 4)}.get(target, 1)
        p = {"pair": rng.choice([0.5, 0.7, 1.0]), "unpaired": float(index % 2)}.get(target, 1.0)
        answers = tuple(answer(rng) for _ in range(count))
        weight = rng.choice([0.5, 1.0, 2.0])
        found.append(TrainRow(f"row-{index}", prompt, answers, target, p=p, weight=weight))
    return found


class Bench:
    """A tiny fp64 model with a perturbed reference, and gradients of it on demand."""

    def __init__(self, folder):
        self.policy = load_policy(resolve_model(str(folder)), dtype="float64", device="cpu")
        self.settings = TrainSettings(dtype="float64", device="cpu")
        self.model = prepare_model(self.policy, self.settings, None, 1)
        generator = torch.Generator().manual_seed(2)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                # B = 0 would hide half of the gradient.
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.data.add_(0.05 * noise)
        self.masters = Masters(self.model)

    def rows(self, rows):
        return encode_rows(
            self.policy.tokenizer, rows, max_length=256, overlong="answers", hard_labels=False
        )

    def gradient(
        self,
        settings,
        rows,
        *,
        layout=TREE,
        budget=EVERYTHING,
        score=None,
        reference=None,
        lanes=1,
        objective=None,
    ):
        scorer = Scorer(self.model, layout)
        gradient = Gradient(
            objective or make_objective(settings),
            score or scorer,
            self.masters,
            layout=layout,
            budget=budget,
            device=torch.device("cpu"),
            dtype=torch.float64,
            reference=reference or perturbed(rows),
            ranks=Ranks(),
            lanes=Lanes(lanes),
        )
        tables = gradient.collect(rows)
        flat = torch.cat([g.reshape(-1) for g in self.masters.gradients()]).clone()
        loss = sum(float(table.parts.sum()) for table in tables)
        return loss, flat, gradient


def perturbed(rows):
    """Log-probs of a reference that is not the policy, from the tokens alone."""
    known = {}
    for row in rows:
        for key, branch in zip(logp_keys(row.tree), row.tree.branches, strict=True):
            generator = torch.Generator().manual_seed(int.from_bytes(key[:4], "little"))
            noise = torch.rand(branch.n_scored, generator=generator, dtype=torch.float64)
            known[key] = (-3 - noise).numpy()
    return known


@pytest.fixture(scope="module")
def bench(tiny_model_dir):
    return Bench(tiny_model_dir)


def loss_settings(name, **changes):
    return TrainSettings(loss=name, dtype="float64", device="cpu", labels="soft", **changes)


def rows_for(bench, name):
    loss = losses.get(name)
    rows = train_rows(loss.target)
    if loss.hard:
        rows = [replace(row, p=1.0) if 0 < row.p < 1 else row for row in rows]
    encoded = bench.rows(rows)
    if loss.needs_mismatch:
        encoded = with_mismatches(encoded, 256)
    return list(encoded.rows)


# Llama's norms compute in fp32 whatever the model's precision, so fp64 ends at about 1e-8.
def close(one, other, rel=1e-6):
    torch.testing.assert_close(one, other, rtol=rel, atol=rel * float(one.abs().max()))


@pytest.mark.parametrize("name", LANGUAGE)
def test_packs_layout_and_order_change_no_gradient(bench, name):
    rows = rows_for(bench, name)
    settings = loss_settings(name)
    loss, whole, _ = bench.gradient(settings, rows)
    assert float(whole.abs().max()) > 0
    for changed in (
        {"budget": max(size_of(row.tree, TREE) for row in rows)},
        {"budget": 1},
        {"layout": PADDED},
        {"layout": PADDED, "budget": 150},
    ):
        other_loss, other, _ = bench.gradient(settings, rows, **changed)
        assert other_loss == pytest.approx(loss, rel=1e-7)
        close(whole, other)
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    other_loss, other, _ = bench.gradient(settings, shuffled, budget=120)
    assert other_loss == pytest.approx(loss, rel=1e-7)
    close(whole, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"sigmoid": 1.0, "nll": 0.2}},
        {"loss": {"sigmoid": 0.5, "ipo": 0.5}, "ld_alpha": 0.3},
        {"loss": "sigmoid", "wpo": True},
        {"loss": "aot", "wpo": True},
        {"loss": "sigmoid", "divergence": "js"},
        {"loss": "hinge", "divergence": "forward_kl"},
    ],
    ids=str,
)
def test_modifiers_and_mixtures_do_not_see_the_packs(bench, changes):
    rows = list(bench.rows(train_rows("pair")).rows)
    if losses.get("aot").hard and changes["loss"] == "aot":
        rows = [replace(row, p=1.0) for row in rows]
    settings = TrainSettings(dtype="float64", device="cpu", **changes)
    loss, whole, _ = bench.gradient(settings, rows)
    other_loss, other, _ = bench.gradient(settings, rows, budget=1)
    assert other_loss == pytest.approx(loss, rel=1e-7)
    close(whole, other)


def test_a_coupled_loss_over_lists_of_unequal_lengths_does_not_see_the_packs(bench):
    """Each answer is compared with the mean reward of the step's answers, so that every row's
    gradient depends on all lists; a pack is as wide as its own longest list only."""

    def above_the_mean(logps, targets, *, params):
        there = logps.n_tokens > 0
        rewards = logps.ratios().masked_fill(~there, 0)
        gap = rewards - rewards.sum() / there.sum()
        return torch.nn.functional.softplus(-gap).masked_fill(~there, 0).sum(dim=1)

    loss = replace(losses.get("plackett_luce"), function=above_the_mean, couples_rows=True)
    objective = Objective((Term(loss, 1.0, {}),))
    rows = rows_for(bench, "plackett_luce")
    assert {len(row.tree.branches) for row in rows} == {2, 3, 4}
    settings = loss_settings("plackett_luce")
    value, whole, _ = bench.gradient(settings, rows, objective=objective)
    assert float(whole.abs().max()) > 0
    for budget in (1, 120):
        other_value, other, _ = bench.gradient(settings, rows, budget=budget, objective=objective)
        assert other_value == pytest.approx(value, rel=1e-7)
        close(whole, other)


def test_a_swapped_pair_with_the_opposite_label_is_the_same_pair(bench):
    rows = list(bench.rows(train_rows("pair")).rows)
    swapped = [
        replace(row, p=1 - row.p, tree=Tree(row.tree.prompt, row.tree.branches[::-1]))
        for row in rows
    ]
    loss, whole, _ = bench.gradient(loss_settings("sigmoid"), rows)
    other_loss, other, _ = bench.gradient(loss_settings("sigmoid"), swapped)
    assert other_loss == pytest.approx(loss, rel=1e-7)
    close(whole, other)


def test_activation_checkpointing_changes_no_gradient(tiny_model_dir):
    kept, again = Bench(tiny_model_dir), Bench(tiny_model_dir)
    checkpoint_activations(again.model)
    kept.model.train()
    again.model.train()
    rows = list(kept.rows(train_rows("pair")).rows)
    _, one, _ = kept.gradient(loss_settings("sigmoid"), rows)
    _, two, _ = again.gradient(loss_settings("sigmoid"), rows)
    close(one, two)


def memory_of(tokens, scorer):
    """A scorer that runs out of memory beyond ``tokens``: CPUs do not do so on demand."""

    def score(trees, *, statistics=False):
        found = scorer(trees, statistics=statistics)
        if sum(size_of(tree, TREE) for tree in trees) > tokens:
            if not found.values.requires_grad:
                _out_of_memory(None)
            # In the backward pass, when some of the gradient is there already.
            found.values.register_hook(_out_of_memory)
        return found

    return score


def _out_of_memory(_gradient):
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("name", ["sigmoid", "kto", "aot"])
def test_lanes_change_no_gradient_and_no_bit_from_run_to_run(bench, name):
    rows = rows_for(bench, name)
    loss, whole, _ = bench.gradient(loss_settings(name), rows, budget=1)
    found = [bench.gradient(loss_settings(name), rows, budget=1, lanes=2)[:2] for _ in range(3)]
    for other_loss, other in found:
        assert other_loss == pytest.approx(loss, rel=1e-7)
        close(whole, other)
        assert torch.equal(other, found[0][1])


def test_lanes_record_no_graph_in_an_evaluation(bench):
    """Whether gradients are recorded is a thread's own: its caller's wish has to reach a lane."""
    rows, recorded = rows_for(bench, "sigmoid"), []

    def spy(trees, *, statistics=False):
        found = Scorer(bench.model, TREE)(trees, statistics=statistics)
        recorded.append(found.values.requires_grad)
        return found

    settings = loss_settings("sigmoid")
    _, _, gradient = bench.gradient(settings, rows, budget=1, lanes=2, score=spy)
    assert all(recorded)
    recorded.clear()
    gradient.evaluate(rows)
    assert recorded
    assert not any(recorded)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("name", ["sigmoid", "kto", "aot"])
def test_out_of_memory_splits_the_pack_and_keeps_the_gradient(bench, name, lanes):
    rows = rows_for(bench, name)
    largest = max(size_of(row.tree, TREE) for row in rows)
    loss, whole, _ = bench.gradient(loss_settings(name), rows)
    scorer = Scorer(bench.model, TREE)
    other_loss, other, used = bench.gradient(
        loss_settings(name), rows, score=memory_of(largest, scorer), lanes=lanes
    )
    assert used.budget < EVERYTHING
    assert other_loss == pytest.approx(loss, rel=1e-7)
    close(whole, other)


def test_a_row_that_does_not_fit_alone_is_named(bench):
    rows = list(bench.rows(train_rows("pair")).rows)
    with pytest.raises(EnvironmentFault, match="row-"):
        bench.gradient(
            loss_settings("sigmoid"), rows, score=memory_of(1, Scorer(bench.model, TREE))
        )


def flat_constraint(logps, rows):
    return torch.zeros(len(rows))


def wrong_shape(logps, rows):
    return logps.policy.sum()


@pytest.mark.parametrize("constraint", [flat_constraint, wrong_shape])
def test_a_constraint_without_gradient_or_shape_is_refused_by_name(bench, constraint):
    rows = list(bench.rows(train_rows("pair")).rows)
    settings = loss_settings("sigmoid")
    _, _, gradient = bench.gradient(settings, rows)
    objective = make_objective(settings, [constraint])
    pack = gradient.make_pack(rows[:2])
    scored = objective.scored(pack, gradient.score(pack.trees))
    with pytest.raises(TrainingError, match=constraint.__name__):
        objective.check_constraints(scored)


@pytest.fixture
def dropping(tiny_model_dir):
    """A bench whose adapter has dropout, and what its packs come to, in order."""
    bench = Bench(tiny_model_dir)
    for module in bench.model.modules():
        if isinstance(module, torch.nn.Identity):
            continue
        if "lora_dropout" in dict(module.named_children()):
            module.lora_dropout["default"] = torch.nn.Dropout(0.3)
    bench.model.train()
    torch.manual_seed(0)
    scores = []

    def spy(trees, *, statistics=False):
        found = Scorer(bench.model, TREE)(trees, statistics=statistics)
        scores.append(found.values.detach().clone())
        return found

    return bench, spy, scores


def test_both_passes_of_a_coupled_loss_draw_the_same_dropout(dropping):
    """One pack has one pass; two passes over several packs must come to the same with dropout."""
    bench, spy, scores = dropping
    rows = rows_for(bench, "aot")[:1] * 2
    bench.gradient(loss_settings("aot"), rows, budget=1, score=spy)
    assert len(scores) == 4
    first, second = scores[:2], scores[2:]
    assert not torch.equal(first[0], first[1]), "dropout is on"
    for values in second:
        assert any(torch.equal(values, other) for other in first)


def test_the_step_after_a_coupled_loss_draws_dropout_of_its_own(dropping):
    """Its second pass goes back to the draws of the first; the next step goes on behind them."""
    bench, spy, scores = dropping
    rows = rows_for(bench, "aot")[:1] * 2
    for _ in range(2):
        bench.gradient(loss_settings("aot"), rows, budget=1, score=spy)
    one, two = scores[:4], scores[4:]
    assert not any(torch.equal(a, b) for a in one for b in two)


class Moving:
    """A reference that is scored in the step, and how many tokens each call gave it."""

    def __init__(self, rows):
        self.known = perturbed(rows)
        self.calls = []

    def __call__(self, trees):
        self.calls.append(sum(size_of(tree, TREE) for tree in trees))
        return {key: self.known[key] for tree in trees for key in logp_keys(tree)}


@pytest.mark.parametrize("name", ["sigmoid", "kto", "aot"])
def test_a_moving_reference_is_scored_in_packs_and_once_a_row(bench, name):
    rows = rows_for(bench, name)
    settings = loss_settings(name)
    budget = max(size_of(row.tree, TREE) for row in rows)
    loss, whole, _ = bench.gradient(settings, rows, budget=budget)
    moving = Moving(rows)
    other_loss, other, used = bench.gradient(settings, rows, budget=budget, reference=moving)
    assert other_loss == pytest.approx(loss, rel=1e-7)
    close(whole, other)
    everything = sum(size_of(row.tree, TREE) for row in rows)
    assert max(moving.calls) <= budget < everything
    assert sum(moving.calls) == everything
    moving.calls.clear()
    used.evaluate(rows)
    assert max(moving.calls) <= budget
    assert sum(moving.calls) == everything


def test_a_pack_that_counts_for_nothing_adds_nothing_to_an_evaluation(bench, monkeypatch):
    """Under FSDP2 a rank with fewer packs scores one again; entropy is a sum over rows, too."""
    rows = rows_for(bench, "sigmoid")
    _, _, gradient = bench.gradient(loss_settings("sigmoid"), rows, budget=100)
    table = gradient.evaluate(rows)
    packs = gradient.packs(rows)
    monkeypatch.setattr(gradient, "packs", lambda _: [*packs, Part([0], counts=False)])
    other = gradient.evaluate(rows)
    assert float(other.parts.sum()) == pytest.approx(float(table.parts.sum()), rel=1e-9)
    assert float(other.entropy) == pytest.approx(float(table.entropy), rel=1e-9)
