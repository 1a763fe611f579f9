"""Losses of whole steps, of single answers and of lists again, in plain floats: a second oracle."""

from math import exp, log
from types import SimpleNamespace as Record

from naive_losses import L, answers, bce, sig


def naive_step(name, rows, params):
    """[loss of each row] of a loss that naive_losses has not."""
    k, table = Record(**params), [answers(row) for row in rows]
    return STEPS[name](list(zip(rows, table, strict=True)), k)


def mean(values):
    return sum(values) / len(values) if values else 0


def kto(rows, k):
    z0 = max(0, mean([a[1].d for _, a in rows if a[1].n]))
    good = [k.desirable * (1 - sig(k.beta * (a[0].d - z0))) for _, a in rows]
    bad = [k.undesirable * (1 - sig(k.beta * (z0 - a[0].d))) for _, a in rows]
    return drawn(rows, good, bad)


def apo_zero_unpaired(rows, k):
    good = [k.desirable * (1 - sig(k.beta * a[0].d)) for _, a in rows]
    bad = [k.undesirable * sig(k.beta * a[0].d) for _, a in rows]
    return drawn(rows, good, bad)


def bco_unpaired(rows, k):
    sides = [[(r.p, a[0].d) for r, a in rows], [(1 - r.p, a[0].d) for r, a in rows]]
    known = [side for side in sides if sum(w for w, _ in side)]
    means = [sum(w * k.beta * d for w, d in side) / sum(w for w, _ in side) for side in known]
    good = [L(k.beta * a[0].d - mean(means)) for _, a in rows]
    bad = [L(mean(means) - k.beta * a[0].d) for _, a in rows]
    return drawn(rows, good, bad)


def bco(rows, k):
    shift = k.shift * mean([k.beta * x.d for _, a in rows for x in a])

    def hard(w, l):  # noqa: E741
        return L(k.beta * w.d - shift) + L(shift - k.beta * l.d)

    return drawn(rows, [hard(a, b) for _, (a, b) in rows], [hard(b, a) for _, (a, b) in rows])


def drawn(rows, good, bad):
    return [r.p * g + (1 - r.p) * b for (r, _), g, b in zip(rows, good, bad, strict=True)]


def aot(rows, k):
    pairs = [a if r.p == 1 else a[::-1] for r, a in rows]
    return dominance([w.lp - x.lp for w, x in pairs], [w.ref - x.ref for w, x in pairs], k)


def aot_unpaired(rows, k):
    pairs = [a if r.p == 1 else a[::-1] for r, a in rows]
    return dominance([w.d for w, _ in pairs], [x.d for _, x in pairs], k)


def dominance(above, below, k):
    rank = {value: place for place, value in enumerate(sorted(above))}
    return [bce(k.beta * (x - sorted(below)[rank[x]]), 1 - k.epsilon) for x in above]


def plackett_luce(rows, k):
    return [chain([k.beta * x.d for x in a if x.n]) for _, a in rows]


def chain(r):
    return -sum(r[i] - log(sum(exp(x) for x in r[i:])) for i in range(len(r)))


STEPS = {
    f.__name__: f
    for f in (kto, apo_zero_unpaired, bco_unpaired, bco, aot, aot_unpaired, plackett_luce)
}
