"""Alarms: what goes wrong in preference training, seen from the metrics, with the remedies named.

An alarm is a function of the lines of metrics.jsonl alone, so a run that goes on after a kill
raises the same alarms at the same steps. Each kind sounds once a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field

from prefkit.settings import Settings

AlarmKind = Literal["first_loss", "chosen_falls", "accuracy_stuck", "labels_reversed", "length"]
SIGMAS = 2.0
# The mean of fewer steps is noise, whatever the window.
LEAST_STEPS = 4


class AlarmSettings(Settings):
    """When an alarm sounds."""

    window: int = Field(
        default=20,
        ge=4,
        description="Steps that are averaged; in a short run a quarter of its steps.",
    )
    chosen_falls: float = Field(
        default=2.0,
        gt=0,
        description="Nats by which the chosen answers may fall below the reference, on average "
        "over the window; 2 nats are a factor of 7.",
    )
    chosen_falls_per_token: float = Field(
        default=0.3,
        gt=0,
        description="Without a reference: nats a token by which the chosen answers may fall below "
        "where they were in the first window.",
    )
    length: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="Correlation of the reward margin with the difference in length from which "
        "the policy is said to learn length.",
    )


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that went wrong at ``step``, and what mends it, the likeliest first."""

    kind: AlarmKind
    step: int
    message: str
    remedies: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As metrics.jsonl and train.json hold it."""
        return {**asdict(self), "remedies": list(self.remedies)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Alarm:
        """The alarm of ``to_json``."""
        return cls(value["kind"], value["step"], value["message"], tuple(value["remedies"]))

    def __str__(self) -> str:
        return f"step {self.step}: {self.message}; try: {'; '.join(self.remedies)}"


class Alarms:
    """Watches the lines of a run in order.

    total: steps of the run. first_loss: what the loss has to be at step 1 (ln 2 where a sigmoid
    loss starts at its reference), None where that is not known; tolerance: by how much it may
    differ.
    """

    def __init__(
        self,
        settings: AlarmSettings,
        *,
        total: int,
        first_loss: float | None = None,
        tolerance: float = 1e-5,
    ) -> None:
        self._settings = settings
        self._total = total
        self._first_loss = first_loss
        self._tolerance = tolerance
        self._window = max(min(settings.window, total // 4), LEAST_STEPS)
        self._lines: list[Mapping[str, Any]] = []
        self._start: float | None = None
        self.sounded: list[Alarm] = []

    def see(self, line: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that sound at this step."""
        self._lines = [*self._lines, line][-self._window :]
        if self._start is None and len(self._lines) == self._window:
            self._start = self._mean("chosen_logp_per_token")
        checks = (
            self._first(line),
            self._chosen_falls(line),
            self._accuracy(line),
            self._length(line),
        )
        known = {alarm.kind for alarm in self.sounded}
        found = [alarm for alarm in checks if alarm is not None and alarm.kind not in known]
        self.sounded += found
        return found

    def _values(self, key: str) -> list[float]:
        return [line[key] for line in self._lines if line.get(key) is not None]

    def _mean(self, key: str) -> float | None:
        """The mean over a full window in which at least half of the steps have a value."""
        values = self._values(key)
        if len(self._lines) < self._window or 2 * len(values) < self._window:
            return None
        return sum(values) / len(values)

    def _first(self, line: Mapping[str, Any]) -> Alarm | None:
        expected, loss = self._first_loss, line["loss"]
        if line["step"] != 1 or expected is None or loss is None:
            return None
        gap = abs(loss - expected)
        if gap <= self._tolerance:
            return None
        name = "ln 2" if math.isclose(expected, math.log(2)) else f"{expected:.6g}"
        return Alarm(
            "first_loss",
            line["step"],
            f"the first loss is {loss:.6g}, {gap:.2g} away from {name}: policy and reference "
            "differ before anything was learnt",
            (
                "check that the reference is what training starts from",
                "set dtype to float32",
                "delete the reference store if its model was changed in place",
            ),
        )

    def _chosen_falls(self, line: Mapping[str, Any]) -> Alarm | None:
        fall, limit = self._mean("chosen_logratio"), self._settings.chosen_falls
        if fall is not None:
            what = f"{-fall:.2f} nats below the reference ({math.exp(min(-fall, 99)):.3g}× less "
            what += "likely)"
        else:
            now, limit = self._mean("chosen_logp_per_token"), self._settings.chosen_falls_per_token
            if now is None or self._start is None or "chosen_logratio" in line:
                return None
            fall = now - self._start
            what = f"{-fall:.2f} nats a token below where they started"
        if fall >= -limit:
            return None
        return Alarm(
            "chosen_falls",
            line["step"],
            f"the chosen answers lose likelihood: {what}, mean of the last {self._window} steps",
            (
                "add their likelihood to the loss (nll, for example {sigmoid: 1, nll: 0.2})",
                "loss dpop",
                "a lower learning_rate",
                "a higher beta",
            ),
        )

    def _accuracy(self, line: Mapping[str, Any]) -> Alarm | None:
        """Half-way through, training rows should be told apart better than by a coin."""
        mean = self._mean("reward_accuracy")
        if mean is None or line["step"] < max(2 * self._window, self._total / 2):
            return None
        # Pairs of answers of one row hang together: count no more of them than rows.
        n = sum(min(seen["n_judged"], seen["n_rows"]) for seen in self._lines)
        if n == 0:
            return None
        slack = SIGMAS * 0.5 / math.sqrt(n)
        where = f"reward accuracy is {mean:.2f} over the last {n} rows"
        if mean < 0.5 - slack:
            return Alarm(
                "labels_reversed",
                line["step"],
                f"{where}, below a coin's: the policy prefers what the labels do not",
                ("check the columns: chosen and rejected may be swapped", "a lower learning_rate"),
            )
        if mean > 0.5 + slack:
            return None
        return Alarm(
            "accuracy_stuck",
            line["step"],
            f"{where}, no better than a coin's after {line['step']} of {self._total} steps",
            (
                "a higher learning_rate",
                "more epochs",
                "look at the rows: prefkit inspect DATA --as-trained MODEL",
            ),
        )

    def _length(self, line: Mapping[str, Any]) -> Alarm | None:
        mean = self._mean("length_margin_corr")
        if mean is None or line["step"] < 2 * self._window or abs(mean) < self._settings.length:
            return None
        side = "longer" if mean > 0 else "shorter"
        return Alarm(
            "length",
            line["step"],
            f"the reward follows length: {side} answers get the higher margin (correlation "
            f"{mean:.2f}, mean of the last {self._window} steps)",
            (
                "loss sigmoid_norm or simpo (means over tokens)",
                "loss rdpo (a price on length)",
                "ld_alpha below 1",
                "balance the lengths with prefkit curate",
            ),
        )


def sounded_in(lines: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    """The alarms that the lines of a metrics.jsonl record, in order."""
    return [Alarm.from_json(value) for line in lines for value in line.get("alarms", ())]
