"""Makes the networks of ``own_layers`` in one backend, in its own interpreter.

``python -m tests.convert_layers BACKEND OUT [REFERENCE]`` leaves in ``OUT.npz`` what each network
gives, by case and variant, and in ``OUT.json`` what its parameters are. They are the reference's,
as this program left it; without one they are drawn, and left in ``OUT.npz``, too.
"""

import importlib
import json
import sys
import traceback
from pathlib import Path

import numpy as np

from framework_parity.common.training.layers import Converter
from framework_parity.common.training.matching import Wanted, match, table

backend, out, *reference = sys.argv[1:]
d2l = importlib.import_module(f"framework_parity.backends.{backend}")
made = importlib.import_module(f"tests.own_layers.{backend}")
X = np.random.default_rng(0).normal(size=(4, 64))
facts, arrays, failed = {}, {}, {}
given = np.load(f"{reference[0]}.npz") if reference else {}
known = json.loads(Path(f"{reference[0]}.json").read_text())["facts"] if reference else {}
for (case, variant), make in made.networks(d2l).items():
    try:
        with made.float64(), d2l.Trainer.layers_of("float64"):
            model = make()
            entries = [entry for entry in model.entries(X) if entry.trainable]
            if reference:
                wanted = [Wanted.of(one) for one in known[case]]
                pairs = match(wanted, entries, {}, "the reference", backend)
                parameters = {one.name: given[f"{case}/{one.name}"] for one in wanted}
            else:
                pairs = table(entries, {}, backend)
                generator = np.random.default_rng(len(case))
                parameters = {n: generator.normal(size=e.shape) for n, e in pairs.items()}
                facts[case] = [Wanted.like(n, entry).facts() for n, entry in pairs.items()]
                arrays |= {f"{case}/{name}": value for name, value in parameters.items()}
            model.convert(Converter(pairs))
            model.set_parameters(parameters)
            arrays[f"y/{case}/{variant}"] = made.predict(model, X)
            for name, value in model.get_parameters().items():
                assert np.array_equal(value, parameters[name]), name
            assert model.get_parameters().keys() == parameters.keys()
    except Exception:
        failed[f"{case}/{variant}"] = traceback.format_exc()
np.savez(f"{out}.npz", **arrays)
Path(f"{out}.json").write_text(json.dumps({"facts": facts, "failed": failed}))
