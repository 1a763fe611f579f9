"""The training loop, top to bottom: plan → reference → steps → what is left behind.

Exact normalisation: an optimiser step is the gradient of the objective's L over its rows, however
they are split into packs and ranks. The reference goes through the same kernels as the policy, so
the first sigmoid loss of a new adapter is ln 2.

Written to ``out``: what the monitor records, adapter/ or model/, and last of all train.json.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prefkit.core.progress import Progress
from prefkit.core.rng import derive_seed
from prefkit.policy.layout import choose_layout, plan_packs
from prefkit.policy.load import Policy
from prefkit.policy.logp_store import Floats
from prefkit.policy.logps import TokenLogps
from prefkit.policy.parts import causal_model
from prefkit.policy.trees import Tree
from prefkit.training import checkpoint
from prefkit.training.adapter import prepare_model, still
from prefkit.training.average import MovingAverage
from prefkit.training.early_stop import standing
from prefkit.training.export import leave
from prefkit.training.facts import EvaluationFacts, SampledAnswers
from prefkit.training.gradient import Gradient
from prefkit.training.lanes import lanes_for
from prefkit.training.lineage import lineage
from prefkit.training.logged import Pending, step_facts, stop_at
from prefkit.training.masters import Masters
from prefkit.training.monitor import Monitor
from prefkit.training.optimiser import clip_, learning_rate, make_optimizer
from prefkit.training.packs import size_of, tokens_at_once
from prefkit.training.plan import Plan
from prefkit.training.precision import precision_of
from prefkit.training.ranks import Ranks
from prefkit.training.reference import score_missing, split_by_key
from prefkit.training.result import (
    TrainResult,
    make_result,
    write_manifest,
)
from prefkit.training.run_report import write_run_report
from prefkit.training.samples import sample_answers
from prefkit.training.scorer import Scorer, checkpoint_activations, silence_dropout
from prefkit.training.shards import gathered, put_back, shard
from prefkit.training.tables import loss_parts, row_facts, to_host
from prefkit.training.worst import write_worst

# Where the scaling of fp16 gradients starts.
FP16_SCALE = 2.0**16
# It doubles each time so many steps were taken, up to where a sum of gradients still fits.
FP16_GROWS_AFTER = 1000
FP16_LARGEST_SCALE = 2.0**24
# How far the first sigmoid loss may be from ln 2; in other precisions 5e-3.
LN2_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-6}


class Run:
    """The state of one run: model, gradient, optimiser."""

    def __init__(
        self,
        plan: Plan,
        policy: Policy,
        known: Mapping[bytes, Floats] | None,
        ranks: Ranks,
        progress: Progress,
    ) -> None:
        settings = plan.settings
        self.plan, self.ranks, self.progress = plan, ranks, progress
        self.tokenizer = policy.tokenizer
        silence_dropout(policy.model)
        self.model = prepare_model(
            policy, settings, plan.start, derive_seed("adapter", settings.seed)
        )
        if settings.activation_checkpointing or ranks.checkpoints_activations:
            checkpoint_activations(self.model)
        embeddings = causal_model(self.model).get_input_embeddings().weight
        self.device, self.dtype = embeddings.device, embeddings.dtype
        self.layout = choose_layout(self.model, longest=plan.longest)
        progress("layout", 1, 1, self.layout.reason)
        self.scorer = Scorer(self.model, self.layout, rewards=plan.objective.rewards)
        if ranks.sharded:
            shard(self.scorer, self.model)
            ranks.at_work = True
        self.masters = Masters(self.model)
        self.precision = precision_of(plan, self.dtype, self.masters.values)
        progress("precision", 1, 1, str(self.precision))
        self.optimizer = make_optimizer(settings, self.masters)
        lanes = lanes_for(plan, self.model, ranks)
        budget = tokens_at_once(settings.tokens_at_once, self.device, self.dtype, self.layout)
        self.gradient = Gradient(
            plan.objective,
            self.scorer,
            self.masters,
            layout=self.layout,
            budget=budget // lanes.n,
            device=self.device,
            dtype=torch.float64 if self.dtype == torch.float64 else torch.float32,
            reference=known or {},
            ranks=ranks,
            lanes=lanes,
        )
        self.gradient.scale = FP16_SCALE if self.dtype == torch.float16 else 1.0
        self.average: MovingAverage | None = None
        self.best: Mapping[str, Tensor] | None = None
        self.clock = time.monotonic()

    def go(self, started: float) -> TrainResult:
        """All steps that are left, then what the run leaves."""
        plan, settings = self.plan, self.plan.settings
        self._set_reference()
        point = checkpoint.latest(plan.out, run=plan.run, ranks=self.ranks)
        if point is not None:
            state = self._state()
            checkpoint.restore(point, state)
            self.best, self.gradient.scale = state.best, state.scale
        done = point.step if point else 0
        with self._monitor(done) as monitor:
            if done == 0:
                self._check_constraints()
            waiting: list[Pending] = []
            self.clock = time.monotonic()
            for step in range(done, plan.total_steps):
                waiting.append(self._step(step))
                if (step + 1) % settings.log_every == 0 or self._pauses(step + 1):
                    self._record(monitor, waiting)
                if self._evaluates(step + 1) and self._evaluate(monitor, step + 1):
                    break
                self._checkpoint(step + 1, monitor)
                if not waiting:
                    self.clock = time.monotonic()
            result = self._leave(monitor, started, point.step if point else None)
        if self.ranks.leads:
            checkpoint.clear(plan.out, run=plan.run)
        return result

    def _set_reference(self) -> None:
        """Score what is not known yet of a reference that is the policy before training."""
        plan, reference = self.plan, self.plan.reference
        if reference is None:
            return
        self.progress("reference", 1, 1, reference.describe())
        if reference.kind == "ema":
            self.average = MovingAverage(self.masters, plan.settings.ema_decay)
            self.gradient.reference = self._score_average
        if reference.kind in ("base", "start"):
            with still(self.model, adapter=reference.kind != "base"):
                self.gradient.reference = score_missing(
                    plan.trees,
                    self._score,
                    plan.store(),
                    self._packs,
                    self.ranks,
                    self.gradient.lanes,
                    progress=self.progress,
                )

    def _packs(self, trees: Sequence[Tree]) -> list[list[int]]:
        """Packs to score the reference in: those of the first epoch's steps, where all is new.

        In the same company a row rounds alike, so that policy and reference agree to the last bit
        at the start also in bf16, where another packing moves a log-prob by hundredths of a nat.
        """
        if len(trees) == len(self.plan.trees):
            n, size = len(self.plan.rows.rows), self.plan.settings.batch_size
            starts = [*range(0, n, size), *range(n, len(trees), size)]
        else:
            starts = [0]
        packs: list[list[int]] = []
        for start, end in zip(starts, [*starts[1:], len(trees)], strict=True):
            sizes = [size_of(tree, self.layout) for tree in trees[start:end]]
            groups = plan_packs(sizes, self.gradient.budget)
            packs += [[start + i for i in group] for group in groups]
        return packs

    @torch.no_grad()
    def _score(self, trees: Sequence[Tree]) -> TokenLogps:
        """Log-probs without gradient, of the model as it stands."""
        return self.scorer(trees)

    def _score_evenly(self, trees: Sequence[Tree]) -> TokenLogps:
        with still(self.model):
            return self._score(trees)

    def _score_reference(self, trees: Sequence[Tree]) -> TokenLogps:
        """Log-probs of the model without what is trained; adapters only."""
        with still(self.model, adapter=False):
            return self._score(trees)

    def _score_average(self, trees: Sequence[Tree]) -> Mapping[bytes, Floats]:
        assert self.average is not None
        with self.average.inside(self.masters):
            return split_by_key(trees, self._score_evenly(trees))

    def _check_constraints(self) -> None:
        if not self.plan.objective.constraints:
            return
        first = self.plan.rows_of(0)[:2]
        pack = self.gradient.make_pack(first)
        self.plan.objective.check_constraints(
            self.plan.objective.scored(pack, self.scorer(pack.trees, statistics=True))
        )
        self.masters.zero()

    def _step(self, step: int) -> Pending:
        """One optimiser step. It waits for the device only where it has to know a number: for
        fp16's scaling, the first pass of a loss that couples rows, and the ema reference."""
        settings = self.plan.settings
        self.model.train()
        rows = self.plan.rows_of(step)
        while True:
            tables = self.gradient.collect(rows)
            gradients = self.masters.gradients()
            if not self.ranks.sharded:
                self.ranks.sum_(gradients)
            norm = clip_(gradients, settings.max_grad_norm, self.ranks)
            if self.gradient.scale <= 1 or math.isfinite(float(norm)):
                break
            # fp16 overflowed: the same step again with smaller numbers (Micikevicius et al. 2018,
            # arXiv 1710.03740, section 3.2); powers of two change no digit.
            self.gradient.scale /= 4
        if self.dtype == torch.float16 and (step + 1) % FP16_GROWS_AFTER == 0:
            self.gradient.scale = min(2 * self.gradient.scale, FP16_LARGEST_SCALE)
        rate = learning_rate(settings, step, self.plan.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.masters.offer()
        # A fused optimiser leaves everything as it is where this is 1; the log step then stops.
        self.optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.masters.publish()
        if self.average is not None:
            self.average.update(self.masters)
        return Pending(step, rows, tables, norm, rate)

    def _record(self, monitor: Monitor | None, waiting: list[Pending]) -> None:
        """Copy what waits from the device and log it; stop where it is not finite."""
        for facts in step_facts(waiting, self.plan, self.ranks, since=self.clock):
            if not facts.is_finite():
                stop_at(facts)
            if monitor is not None:
                monitor.step(facts)
        waiting.clear()

    def _pauses(self, done: int) -> bool:
        """Whether something after step ``done`` needs all lines written."""
        last = done == self.plan.total_steps
        return last or self._evaluates(done) or done % self.plan.settings.checkpoint_every == 0

    def _evaluates(self, done: int) -> bool:
        every = self.plan.settings.evaluate_every
        due = every is not None and done % every == 0
        return bool(self.plan.heldout.rows) and (due or done == self.plan.total_steps)

    def _evaluate(self, monitor: Monitor | None, done: int) -> bool:
        """Measure the held-out rows; True to stop early."""
        started = time.monotonic()
        settings = self.plan.settings
        self.model.eval()
        table = self.gradient.evaluate(self.plan.heldout.rows)
        samples = None
        if settings.n_samples and (self.ranks.leads or self.ranks.sharded):
            samples = self._samples(done)
        now = None
        if monitor is not None:
            tables, _ = to_host([table])
            rows = row_facts(tables, self.plan.objective)
            loss = sum(loss_parts(tables, self.plan.objective).values())
            seconds = time.monotonic() - started
            monitor.evaluation(EvaluationFacts(done, rows, loss, seconds, samples))
            now = standing(monitor.evaluations, patience=settings.patience)
        now = self.ranks.gather(now)[0]
        if settings.keep_best and now.best_step == done:
            self.best = {name: value.clone() for name, value in self.masters.values.items()}
        return now.stop

    def _checkpoint(self, done: int, monitor: Monitor | None) -> None:
        if done % self.plan.settings.checkpoint_every or done == self.plan.total_steps:
            return
        if monitor is not None:
            monitor.sync()
        notes = self.plan.identity.notes()
        checkpoint.save(self.plan.out, done, self._state(), notes=notes, ranks=self.ranks)

    def _state(self) -> checkpoint.State:
        return checkpoint.State(
            self.masters, self.optimizer, self.average, self.best, self.gradient.scale
        )

    def _samples(self, done: int) -> SampledAnswers:
        """Answers of the policy as it stands to the first held-out prompts."""
        plan = self.plan
        rows = {row.source.prompt.id: row for row in plan.heldout.rows}
        trees = [row.tree for row in list(rows.values())[: plan.settings.n_samples]]
        seed = derive_seed("samples", plan.settings.seed, done)
        reference = None
        adapted = hasattr(self.model, "peft_config")
        if adapted and plan.reference is not None and plan.reference.kind == "base":
            reference = self._score_reference
        with gathered(self.scorer):
            return sample_answers(
                self.model,
                self.tokenizer,
                [tree.prompt for tree in trees],
                seed=seed,
                policy=self._score_evenly,
                reference=reference,
            )

    def _leave(
        self, monitor: Monitor | None, started: float, resumed_from: int | None
    ) -> TrainResult:
        """Write the adapter or model and the manifest, last of all."""
        plan = self.plan
        if self.best is not None:
            self.masters.load(self.best)
        weights = self.masters.whole(keep=self.ranks.leads)
        result = None
        if monitor is not None:
            if self.ranks.sharded and hasattr(self.model, "peft_config"):
                put_back(self.model, weights)
            best_step = standing(monitor.evaluations).best_step if self.best is not None else None
            facts = lineage(
                plan.source,
                plan.settings,
                data=plan.data_facts,
                run=plan.run,
                start=plan.start_digest,
            )
            folder = leave(
                self.model,
                weights,
                plan.out,
                tokenizer=self.tokenizer,
                source=plan.source,
                facts=facts,
            )
            result = make_result(
                plan,
                monitor,
                folder,
                layout=self.layout,
                precision=self.precision,
                best_step=best_step,
                seconds=time.monotonic() - started,
                resumed_from=resumed_from,
            )
            self._explain(result)
            write_manifest(plan, result)
        return self.ranks.gather(result)[0]

    def _explain(self, result: TrainResult) -> None:
        """Write worst.jsonl and report.html from what the monitor recorded."""
        plan = self.plan
        write_worst(plan.out, {row.id: row.source for row in plan.rows.rows})
        write_run_report(
            plan.out,
            result.facts(),
            subtitle=f"{plan.source.spec}, {' + '.join(plan.settings.loss_weights)}",
            first_loss=plan.first_loss,
        )

    def _monitor(self, done: int) -> contextlib.AbstractContextManager[Monitor | None]:
        """What rank 0 sees the run with; nothing on the others."""
        plan = self.plan
        if not self.ranks.leads:
            return contextlib.nullcontext()
        return Monitor(
            plan.out,
            total=plan.total_steps,
            run=plan.run,
            done=done,
            trackers=plan.settings.trackers,
            config={**plan.settings.model_dump(mode="json"), "dtype": self.precision.dtype},
            alarms=plan.settings.alarms,
            first_loss=plan.first_loss,
            tolerance=LN2_TOLERANCE.get(self.dtype, 5e-3),
            progress=self.progress,
        )
