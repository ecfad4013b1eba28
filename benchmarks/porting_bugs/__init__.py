"""Mistakes of porters, planted into one framework's copy of a model of ``docs/examples``.

A bug is a change of the file's text, as a porter would have written it. Needs the standard
library only.
"""

from framework_parity.benchmarks.porting_bugs import lenet, mlp, others, transformer
from framework_parity.benchmarks.porting_bugs.bug import Bug

BUGS: tuple[Bug, ...] = (*mlp.BUGS, *lenet.BUGS, *transformer.BUGS, *others.BUGS)
