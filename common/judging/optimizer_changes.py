"""What ports of an optimizer get wrong: the reference's, each time with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.judging.optimizer_rule import Begin, Rule, Uncorrected
from framework_parity.common.reference.optimizers import CLIPPINGS, SGD, Adagrad, Adam, RMSprop

Values = npt.NDArray[np.floating[Any]]

DECAYS = (1e-5, 1e-4, 1e-3, 4e-3, 1e-2, 0.1)
EPSILONS = tuple(10.0**-k for k in range(1, 17))
PARTS = (0.5, 0.2, 0.1, 0.05, 0.01, 1e-3, 1e-4)
"""Where fits begin: of a decay, an epsilon, what is new in an average."""
CLIPPING_WORDS = dict(
    zip(CLIPPINGS, ("the norm of all gradients", "each gradient's norm", "each entry"), strict=True)
)
NORM_EPSILONS = (0.0, 1e-6, 1e-8)
"""What frameworks add to the norm that they divide by."""
NODES = 8
"""From how many rates a smooth schedule is known between its steps."""


@dataclass(frozen=True)
class Change:
    """One thing changed.

    Args:
        name: of the cause.
        make: the optimizer, from a positive value.
        text: the cause in words, with ``{}`` for the value; its name if empty.
        starts: where a fit of the value begins; empty if there is none.
        unchanged: the reference's value.
        shown: what is shown of the value.
    """

    name: str
    make: Callable[[float], Rule]
    text: str = ""
    starts: Sequence[float] = ()
    unchanged: float = 0.0
    shown: Callable[[float], float] = float


def changes(rule: Rule, begins: Sequence[Begin], steps_per_epoch: int) -> Iterator[Change]:
    """All that is known, for an optimizer.

    Args:
        rule: the reference's.
        begins: what the probed steps began with.
        steps_per_epoch: updates in one epoch.
    """
    yield from of_rate(rule, steps_per_epoch)
    yield from of_decay(rule, begins[0])
    yield from of_clipping(rule, begins)
    yield from of_kind(rule)


def with_options(rule: Rule, **options: object) -> Rule:
    """An optimizer with other arguments."""
    return replace(rule, options={**rule.options, **options})


# The learning rate


def of_rate(rule: Rule, steps_per_epoch: int) -> Iterator[Change]:
    """Another factor, or another schedule."""
    rates = np.array(rule.rates)

    def timed(of: Callable[[int], float]) -> Callable[[float], Rule]:
        return lambda _: replace(rule, rates=tuple(of(step) for step in range(len(rates))))

    yield Change(
        "learning rate",
        lambda c: replace(rule, rates=tuple(c * rates)),
        "learning rate × {}",
        (0.1, 1.0, 10.0),
        1.0,
    )
    if np.ptp(rates) == 0:
        return
    if rule.options.get("momentum"):
        words = "a velocity that holds the learning rates of its steps (v ← m v − lr g)"
        yield Change(words, lambda _: replace(rule, lagging=not rule.lagging))
    epoch, count = steps_per_epoch, len(rates) // steps_per_epoch * steps_per_epoch
    yield Change("no schedule of the learning rate", timed(lambda _: rates[0]))
    for words, by in (("one step", 1), ("one epoch", epoch)):
        for sort, shift in (("late", -by), ("early", by)):
            yield Change(f"a schedule {words} {sort}", timed(partial(shifted, rates, shift)))
        for sort, length in (("shorter", count - by), ("longer", count + by)):
            if length > 0:
                factor = count / length
                moved = partial(stretched, rates, factor)
                yield Change(f"a schedule that is {words} {sort}", timed(moved))
    ends = rates[:count:epoch]

    def of_epochs(step: int) -> float:
        if step < len(ends):
            return float(ends[step])
        return float(ends[0] * (ends[1] / ends[0]) ** step)

    if np.ptp(rates[:count].reshape(-1, epoch), axis=1).any():
        words = "a schedule that goes on per epoch, not per step"
        yield Change(words, timed(lambda s: rates[s // epoch]))
    elif len(ends) > 1:
        yield Change("a schedule that goes on per step, not per epoch", timed(of_epochs))
    yield Change(
        "length of the schedule",
        lambda q: replace(
            rule, rates=tuple(at(rates, min(s / q, 2 * count)) for s in range(count))
        ),
        "a schedule {} × as long",
        (0.5, 0.8, 0.95, 1.05, 1.25, 2.0),
        1.0,
    )


def shifted(rates: Values, by: int, step: int) -> float:
    """The rate of another step; of the first one before that."""
    return at(rates, max(step + by, 0))


def stretched(rates: Values, factor: float, step: int) -> float:
    """The rate of a schedule that goes so much faster."""
    return at(rates, step * factor)


def at(rates: Values, step: float) -> float:
    """The rate of a step; between steps and beyond them, by the polynomial of those nearby."""
    if step == int(step) and 0 <= step < len(rates):
        return float(rates[int(step)])
    first = int(np.clip(round(step) - NODES // 2, 0, max(len(rates) - NODES, 0)))
    places = np.arange(first, min(first + NODES, len(rates)))
    found = 0.0
    for place in places:
        others = places[places != place]
        found += float(rates[place] * np.prod((step - others) / (place - others)))
    return found


# Decay and clipping


def decaying(rule: Rule, names: Collection[str], decoupled: bool, decay: float) -> Rule:
    """With a decay of these parameters."""
    by_name = dict.fromkeys(names, decay)
    return replace(with_options(rule, weight_decay=by_name), decoupled=decoupled)


def clipping(rule: Rule, kind: str, eps: float, limit: float) -> Rule:
    """With gradients clipped."""
    return replace(rule, clip=(limit, kind, eps))


def dividing(rule: Rule, eps: float, _: float) -> Rule:
    """With something else added to the norm."""
    limit, kind, _eps = rule.clip or (0.0, "", 0.0)
    return replace(rule, clip=(limit, kind, eps))


def of_decay(rule: Rule, begin: Begin) -> Iterator[Change]:
    """Weight decay: coupled or not, of which parameters, and how much."""
    held = rule.options.get("weight_decay", 0.0)
    by_name = held if isinstance(held, Mapping) else dict.fromkeys(begin.parameters, held)
    decayed = {name for name, decay in by_name.items() if decay}
    value = max(by_name.values(), default=0.0)
    if decayed:
        yield Change("no weight decay", lambda _: with_options(rule, weight_decay=0.0))
    matrices = {name for name, value in begin.parameters.items() if value.ndim > 1}
    scopes = {"": decayed or {*begin.parameters}, " of all parameters": {*begin.parameters}}
    scopes |= {" of matrices alone": matrices}
    tried: list[set[str]] = []
    plain = rule.kind is SGD and not rule.options.get("momentum")  # there the two are the same
    for scope, names in scopes.items():
        if not names or names in tried:
            continue
        tried.append(names)
        for decoupled in (rule.decoupled,) if plain else (False, True):
            sort = "" if plain else "decoupled " if decoupled else "coupled "
            yield Change(
                f"{sort}weight decay{scope}",
                partial(decaying, rule, names, decoupled),
                f"{sort}weight decay of {{}}{scope}",
                (*DECAYS, *[value] * bool(value)),
                value if decoupled == rule.decoupled else 0.0,
            )


def clippings(rule: Rule, begins: Sequence[Begin], eps: float) -> Iterator[Change]:
    """Clipping of gradients: by what, and at what; with this added to a norm."""
    norms = [np.array([*begin.norms.values()]) for begin in begins]
    sizes = {
        "global norm": [float(np.linalg.norm(found)) for found in norms],
        "norm": [float(found.max()) for found in norms],
        "value": [max(float(np.abs(g).max()) for g in b.gradients.values()) for b in begins],
    }
    limit, by, _ = rule.clip or (0.0, "", 0.0)
    for kind, words in CLIPPING_WORDS.items():
        low, high = min(sizes[kind]), max(sizes[kind])
        if low:
            yield Change(
                f"clipping of {words}",
                partial(clipping, rule, kind, eps),
                f"clipping of {words} at {{}}",
                [0.9 * high, 0.9 * low, *(low * 10.0**-k for k in (0.5, 1, 2, 3))],
                limit if kind == by else 0.0,
            )


def of_clipping(rule: Rule, begins: Sequence[Begin]) -> Iterator[Change]:
    """Clipping, and what else becomes of gradients before the optimizer has them."""
    _limit, by, eps = rule.clip or (0.0, "", 0.0)
    yield from clippings(rule, begins, eps)
    if rule.clip:
        yield Change("no clipping of gradients", lambda _: replace(rule, clip=None))
    for other in NORM_EPSILONS if "norm" in by else ():
        if other != eps:
            words = f"{other:g} added to the norm" if other else "nothing added to the norm"
            yield Change(
                f"clipping with {words} that divides",
                partial(dividing, rule, other),
            )
    if rule.kind is not SGD or rule.options.get("momentum"):
        yield Change(
            "gradients",
            lambda c: replace(rule, factor=c),
            "gradients × {} where the optimizer takes them",
            (0.1, 1.0, 10.0),
            1.0,
        )


# What one kind alone has


def of_kind(rule: Rule) -> Iterator[Change]:
    """What is an optimizer's own."""
    if rule.kind is SGD:
        yield from of_momentum(rule)
    elif rule.kind is Adam:
        yield from of_moments(rule)
        yield Change("steps counted from 1", lambda _: replace(rule, first_count=1))
        yield Change("no bias correction", lambda _: replace(rule, kind=Uncorrected))
        places = {
            "beside √v̂": {"eps_hat": False, "eps_inside": False},
            "beside √v": {"eps_hat": True, "eps_inside": False},
            "inside √(v̂ + ε)": {"eps_hat": False, "eps_inside": True},
        }
        yield from of_epsilon(rule, places)
    else:
        assert rule.kind in (RMSprop, Adagrad)
        sign = "v" if rule.kind is RMSprop else "s"
        places = {
            f"beside √{sign}": {"eps_inside": False},
            f"inside √({sign} + ε)": {"eps_inside": True},
        }
        yield from of_epsilon(rule, places)
        if rule.kind is RMSprop:
            yield part_of(rule, "alpha", "α", rule.options.get("alpha", 0.99))
        else:
            name = "initial_accumulator_value"
            yield Change(
                "first sum of squares",
                lambda x: with_options(rule, **{name: x}),
                "a first sum of squares of {}",
                (1e-3, 0.1, 1.0),
                rule.options.get(name, 0.0),
            )
            if rule.options.get(name, 0.0):
                words = "a first sum of squares of 0"
                yield Change(words, lambda _: with_options(rule, **{name: 0.0}))


def of_momentum(rule: Rule) -> Iterator[Change]:
    """Of descent with a velocity."""
    held = rule.options.get("momentum", 0.0)
    yield Change(
        "momentum",
        lambda x: with_options(rule, momentum=x),
        "momentum of {}",
        (0.5, 0.9, 0.99),
        held,
    )
    if not held:
        return
    yield Change("no momentum", lambda _: with_options(rule, momentum=0.0, nesterov=False))
    other = not rule.options.get("nesterov", False)
    words = "Nesterov's momentum" if other else "momentum without Nesterov's look ahead"
    yield Change(words, lambda _: with_options(rule, nesterov=other))
    yield Change(
        "dampening of the momentum",
        lambda x: with_options(rule, dampening=x),
        "momentum dampened by {}",
        (0.1, 0.5, 0.9),
        rule.options.get("dampening", 0.0),
    )
    if rule.options.get("dampening", 0.0):
        yield Change("no dampening of the momentum", lambda _: with_options(rule, dampening=0.0))


def of_moments(rule: Rule) -> Iterator[Change]:
    """β₁ and β₂."""
    beta1, beta2 = rule.options.get("betas", (0.9, 0.999))
    yield Change(
        "β₁",
        lambda x: with_options(rule, betas=(1 - x, beta2)),
        "β₁ of {}",
        PARTS,
        beta1,
        lambda x: 1 - x,
    )
    yield Change(
        "β₂",
        lambda x: with_options(rule, betas=(beta1, 1 - x)),
        "β₂ of {}",
        PARTS,
        beta2,
        lambda x: 1 - x,
    )


def part_of(rule: Rule, option: str, sign: str, held: float) -> Change:
    """The weight of the old in an average."""
    return Change(
        sign,
        lambda x: with_options(rule, **{option: 1 - x}),
        f"{sign} of {{}}",
        PARTS,
        held,
        lambda x: 1 - x,
    )


def placing(rule: Rule, options: Mapping[str, bool], eps: float) -> Rule:
    """With an epsilon of this size and place."""
    return with_options(rule, eps=eps, **options)


def of_epsilon(rule: Rule, places: Mapping[str, Mapping[str, bool]]) -> Iterator[Change]:
    """Size and place of epsilon."""
    held = rule.options.get("eps", 0.0)
    for place, options in places.items():
        same = all(bool(rule.options.get(name, False)) == value for name, value in options.items())
        yield Change(
            f"ε {place}",
            partial(placing, rule, options),
            f"ε of {{}} {place}",
            (*EPSILONS, *[held] * bool(held)),
            held if same else 0.0,
        )
