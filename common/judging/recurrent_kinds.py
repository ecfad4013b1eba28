"""Recurrent layers: plain ones, LSTM and GRU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from framework_parity.common.judging.layer_kinds import (
    NOTHING,
    Change,
    Kind,
    Options,
    Roles,
    Tensors,
    near,
)
from framework_parity.common.reference.layer_formulas import Floats, recurrent

ORDERS = {1: "n", 3: "rzn", 4: "ifgo"}
"""Gates by their number, in the order of the canonical layout: see :mod:`training.layers`."""
MOST_PAIRS = 8
"""Among how many pairs of weights those of a layer are looked for where it is not known."""
EXAMPLES = 6
"""Of how many it is asked which weights a layer may have, before all are looked at."""


class Recurrence(Kind):
    """A recurrent layer: all of its states, or the last one."""

    name = "recurrent layer"
    most = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X = inputs[0]
        if X.ndim != 3 or target.ndim not in (2, 3):
            return
        if "recurrent weight" in roles:  # else it is asked which ones they are
            parameters = {name: parameters[name] for name in roles.values() if name in parameters}
        size, flat = target.shape[-1], {n: p for n, p in parameters.items() if p.ndim == 2}
        for time, gates in itertools.product((1, 0), ORDERS):
            few = X[:EXAMPLES] if time else X[:, :EXAMPLES]
            exact = target if target.ndim == 3 and not time else target[:EXAMPLES]
            exact = exact[:, :EXAMPLES] if target.ndim == 3 and not time else exact
            shape = (gates * size,)
            biases = [NOTHING, *(n for n, p in parameters.items() if p.shape == shape)]
            pairs = [
                (w, u, turned)
                for turned in (False, True)
                for (w, W), (u, U) in itertools.permutations(flat.items(), 2)
                if W.shape[:: -1 if turned else 1] == (X.shape[-1], *shape)
                and U.shape[:: -1 if turned else 1] == (size, *shape)
            ]
            if len(pairs) > MOST_PAIRS:
                continue
            for w, u, turned in pairs:
                for order in map("".join, itertools.permutations(ORDERS[gates])):
                    for b, c in itertools.product(biases, repeat=2):
                        if b == c != NOTHING:
                            continue
                        for after in {3: (True, False)}.get(gates, (True,)):
                            options: Options = {
                                "weight": w,
                                "recurrent weight": u,
                                "turned": turned,
                            }
                            options |= {"bias": b, "recurrent bias": c, "order": order}
                            options |= {"after": after, "keeps": True, "forget": 0.0}
                            options |= {"time": time, "returns": target.ndim == 3}
                            options |= {"backwards": False}
                            found = self.compute(options, [few], parameters, exact)
                            if near(found, exact):
                                yield Change("", options)

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        X = inputs[0] if options["time"] else inputs[0].swapaxes(0, 1)
        W, U = parameters[options["weight"]], parameters[options["recurrent weight"]]
        W, U = (W.T, U.T) if options["turned"] else (W, U)
        b, c = (
            0.0 if options[name] == NOTHING else parameters[options[name]]
            for name in ("bias", "recurrent bias")
        )
        X = X[:, ::-1] if options["backwards"] else X
        given = (options[name] for name in ("order", "after", "keeps", "forget"))
        states = recurrent(X, W, U, b, c, *given)
        states = states[:, ::-1] if options["backwards"] and options["returns"] else states
        if not options["returns"]:
            return np.asarray(states[:, -1])
        return states if options["time"] else states.swapaxes(0, 1)

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        for order in map("".join, itertools.permutations(options["order"])):
            if order != options["order"]:
                yield Change("order", {"order": order})
        gates = len(options["order"])
        if gates == 3:
            yield Change("after", {"after": not options["after"]})
            yield Change("keeps", {"keeps": False})
        if gates == 4:
            yield Change("forget", {"forget": 1.0})
        for name in ("bias", "recurrent bias"):
            if options[name] != NOTHING:
                yield Change(name, {name: NOTHING})
        yield Change("backwards", {"backwards": True})
        if options["returns"]:
            yield Change("time", {"time": 1 - options["time"]})

    def say(self, label: str, options: Options) -> str:
        words = {
            "after": ("before the product with the state", "after the product with the state"),
            "keeps": ("how much is replaced", "how much is kept"),
            "backwards": ("forwards", "backwards"),
        }
        if label in words:
            return words[label][options[label]]
        if label == "order":
            return ", ".join(GATES[gate] for gate in options["order"])
        return f"axis {options['time']}" if label == "time" else super().say(label, options)


GATES = {
    "i": "input",
    "f": "forget",
    "g": "cell",
    "o": "output",
    "r": "reset",
    "z": "update",
    "n": "new",
}
