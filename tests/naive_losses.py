"""Losses of one pair again, in plain floats and straight from the papers: a second oracle."""

# ruff: noqa: E731, E741, I001
# fmt: off
from math import exp, log
from types import SimpleNamespace as Record
sig = lambda x: 1 / (1 + exp(-x))
L = lambda x: log(1 + exp(-x))  # −log σ
bce = lambda z, p: p * L(z) + (1 - p) * L(-z)
odds = lambda a: a.mean - log(1 - exp(a.mean))
like = lambda z, e: log(e + (1 - 2 * e) * sig(z))
SCORE = {"reverse_kl": lambda u, a: log(u), "forward_kl": lambda u, a: 1 - 1 / u,
         "js": lambda u, a: log(2 * u / (1 + u)),
         "alpha": lambda u, a: (u ** (a - 1) - 1) / (a - 1)}
# The loss if w wins over l: k parameters, m margin of w, z = β(s_w − s_l) − m.
HARD = {
    "sigmoid": lambda w, l, k, m, z: L(z), "odpo": lambda w, l, k, m, z: L(z),
    "sigmoid_norm": lambda w, l, k, m, z: L(k.beta * (w.s / w.n - l.s / l.n) - m),
    "robust": lambda w, l, k, m, z: (L(z) - k.epsilon * (L(z) + L(-z))) / (1 - 2 * k.epsilon),
    "rdpo": lambda w, l, k, m, z: L(z + k.alpha * (w.n - l.n)),
    "dpop": lambda w, l, k, m, z: L(k.beta * (w.d - l.d - k.penalty * max(0, -w.d)) - m),
    "hinge": lambda w, l, k, m, z: max(0, 1 - z),
    "discopop": lambda w, l, k, m, z: (1 - sig(z / k.tau)) * L(z) + sig(z / k.tau) * exp(-z),
    "nca": lambda w, l, k, m, z: L(k.beta * w.d) + (L(-k.beta * w.d) + L(-k.beta * l.d)) / 2,
    "apo_zero": lambda w, l, k, m, z: 1 - sig(k.beta * w.d) + sig(k.beta * l.d),
    "apo_down": lambda w, l, k, m, z: sig(k.beta * w.d) + 1 - sig(k.beta * (w.d - l.d)),
    "simpo": lambda w, l, k, m, z: L(k.beta * (w.mean - l.mean) - k.gamma - m),
    "cpo": lambda w, l, k, m, z: L(k.beta * (w.lp - l.lp) - m) - k.alpha * w.mean,
    "orpo": lambda w, l, k, m, z: -w.mean + k.beta * L(odds(w) - odds(l) - m),
    "nll": lambda w, l, k, m, z: -w.mean, "sft": lambda w, l, k, m, z: -w.lp,
    "bradley_terry": lambda w, l, k, m, z: L(w.lp - l.lp - m) + k.centre * (w.lp + l.lp) ** 2}
# Soft forms that are not the mean of the hard loss; e = the smoothed p, v the votes.
SOFT = {
    "cdpo": lambda a, b, k, m, z, p, e, v: bce(z, e),
    "gdpo": lambda a, b, k, m, z, p, e, v: L((2 * p - 1) * z),
    "exo": lambda a, b, k, m, z, p, e, v: (
        sig(z) * log(sig(z) / e) + sig(-z) * log(sig(-z) / (1 - e))),
    "ipo": lambda a, b, k, m, z, p, e, v: ((z - (p - 0.5)) / k.beta) ** 2,
    "ipo_mean": lambda a, b, k, m, z, p, e, v: (
        (a.s / a.n - b.s / b.n - (m + p - 0.5) / k.beta) ** 2),
    "sppo": lambda a, b, k, m, z, p, e, v: (
        (a.d - (p - 0.5) / k.beta) ** 2 + (b.d + (p - 0.5) / k.beta) ** 2),
    "votes": lambda a, b, k, m, z, p, e, v: (
        -sum(s * like(z, r) + (1 - s) * like(-z, r) for s, r in v) if v else bce(z, p))}


def answers(row, divergence="reverse_kl", alpha=0.5):
    return [Record(lp=lp, ref=ref, n=n, d=lp - ref, mean=lp / max(n, 1),
                   s=SCORE[divergence](exp(lp - ref), alpha))
            for lp, ref, n in zip(row.lp, row.ref, row.n, strict=True)]


def naive(name, row, params, *divergence):
    """The loss of a row with lp, ref, n (lists), p, margin, votes [(share, error | None)]."""
    k, (a, *_, b), p = Record(**params), answers(row, *divergence) * 2, row.p
    m, e = params.get("margin", 0) * (row.margin or 0), p + params.get("epsilon", 0) * (1 - 2 * p)
    z = params.get("beta", 0) * (a.s - b.s) - m
    if name in SOFT:
        v = [(s, params.get("error") if r is None else r) for s, r in row.votes]
        return SOFT[name](a, b, k, m, z, p, e, v)
    return p * HARD[name](a, b, k, m, z) + (1 - p) * HARD[name](b, a, k, -m, -z)
