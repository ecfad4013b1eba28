"""Each backend's own code for a step of softmax regression, cut from the files that run."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import IMPLEMENTATIONS

Places = tuple[tuple[str, ...], ...]
"""Where a step begins: the first of each tuple that is there, ``FILE:NAME`` in a backend's folder.

A backend that is one file has all of them in its ``__init__.py``.

``PLACE/FOLDER:NAME`` is in the file of the backend's name there, in place of its folder, and
``PLACE/FILE.py:NAME`` in that file, which backends share.
What the functions found there use of the same file belongs to the step, too.
"""


def _both(*places: tuple[str, ...]) -> dict[str, Places]:
    return dict.fromkeys(IMPLEMENTATIONS, places)


STEPS: Mapping[str, Mapping[str, Places]] = {
    "softmax": {"scratch": (("scratch.py:softmax",),)},
    "model": {
        "scratch": (("scratch.py:SoftmaxRegressionScratch",),),
        "concise": (("concise.py:SoftmaxRegression",),),
    },
    "loss": {
        "scratch": (("scratch.py:SoftmaxRegressionScratch.loss", "classifier.py:Classifier.loss"),),
        "concise": (("concise.py:SoftmaxRegression.loss", "classifier.py:Classifier.loss"),),
    },
    "accuracy": _both(
        (
            "classifier.py:Classifier.accuracy",
            "common/training/eager_classifier.py:EagerClassifier.accuracy",
        )
    ),
    "optimizer": {
        "scratch": (("optimizer.py:SGD",),),
        "concise": (
            (
                "concise.py:SoftmaxRegression.configure_optimizers",
                "classifier.py:Classifier.configure_optimizers",
            ),
        ),
    },
    "training": _both(("trainer.py:Trainer.fit_epoch", "trainer.py:Trainer.train_step")),
    "prediction": _both(
        ("trainer.py:Trainer.predict", "common/training/eager_trainer.py:EagerTrainer.predict"),
        ("benchmarks/chapters:predict",),
    ),
}
"""By step and implementation. The same names in every backend: a new one needs no entry."""


@dataclass(frozen=True)
class Fragment:
    """A definition as its file has it.

    Args:
        name: its name, after a dot if it is a class's.
        path: its file.
        line: number of its first line.
        code: the lines, as if the definition stood alone.
    """

    name: str
    path: Path
    line: int
    code: str


def choose_step(step: str, implementation: str | None) -> tuple[str, ...]:
    """The implementations whose code for a step is meant: several if they share it.

    Raises:
        ParityError: if there is no such step, or not in that implementation.
    """
    if step not in STEPS:
        raise ParityError("step", f"one of {', '.join(STEPS)}", repr(step), "choose among them")
    has = STEPS[step]
    if implementation is None:
        implementation = next(name for name in IMPLEMENTATIONS if name in has)
    if implementation not in has:
        raise ParityError(
            "implementation",
            f"{' or '.join(has)} for the step {step}",
            repr(implementation),
            "choose one that has it",
        )
    return tuple(name for name in has if has[name] == has[implementation])


def cut_step(folder: Path, step: str, implementation: str, docstrings: bool) -> list[Fragment]:
    """A backend's definitions for a step, file by file; none if it lacks the step."""
    found: list[Fragment] = []
    for places in STEPS[step][implementation]:
        for place in places:
            file, _, name = place.partition(":")
            outside = folder.parents[1] / file
            paths = (outside, outside / f"{folder.name}.py")
            if "/" not in file:
                paths = folder / file, folder / "__init__.py"
            sources = (_Source(path) for path in paths if path.is_file())
            source = next((source for source in sources if name in source.nodes), None)
            if source is not None:
                found += [source.cut(each, docstrings) for each in source.needed_by(name)]
                break
    return found


class _Source:
    """A file, and its definitions by name: the module's, and those of its classes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8")
        self.lines = text.splitlines()
        self.nodes: dict[str, ast.stmt] = {}
        for node in ast.parse(text).body:
            self.nodes |= dict.fromkeys(_defined(node), node)
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                names = _defined(member)
                self.nodes |= {f"{node.name}.{name}": member for name in names}  # type: ignore[attr-defined]

    def needed_by(self, name: str) -> list[str]:
        """A definition and, in the file's order, what functions use of the same file."""
        found, waiting = {name}, [name]
        while waiting:
            for used in self._used_by(waiting.pop()):
                if used not in found and not _is_left_to_others(self.nodes[used]):
                    found.add(used)
                    waiting.append(used)
        return sorted(found, key=lambda name: self.nodes[name].lineno)

    def _used_by(self, name: str) -> Iterator[str]:
        node, owner = self.nodes[name], name.rpartition(".")[0]
        if not isinstance(node, ast.FunctionDef):
            return
        for part in chain.from_iterable(map(ast.walk, node.body)):
            if isinstance(part, ast.Name):
                known = [part.id]
            elif isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                # Or what was made of the function of that name, compiled for instance.
                known = [f"{owner}.{part.attr}", part.attr]
            else:
                continue
            yield from [each for each in known if each in self.nodes][:1]

    def cut(self, name: str, docstrings: bool) -> Fragment:
        """The lines of a definition."""
        node = self.nodes[name]
        decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        assert node.end_lineno is not None
        left_out = set() if docstrings else set(self._docstring_lines(node))
        lines = [
            line
            for number, line in enumerate(self.lines[first - 1 : node.end_lineno], first)
            if number not in left_out
        ]
        return Fragment(name, self.path, first, textwrap.dedent("\n".join(lines)))

    def _docstring_lines(self, node: ast.AST) -> Iterator[int]:
        """Numbers of the lines of a definition's docstrings, with the empty ones after them."""
        for part in ast.walk(node):
            if not isinstance(part, ast.FunctionDef | ast.ClassDef):
                continue
            if ast.get_docstring(part) is None or len(part.body) == 1:  # none, or nothing else
                continue
            last = part.body[0].end_lineno
            assert last is not None
            while not self.lines[last].strip():
                last += 1
            yield from range(part.body[0].lineno, last + 1)


def _is_left_to_others(node: ast.stmt) -> bool:
    """Whether it is a class, or a function that is nothing but a docstring."""
    if isinstance(node, ast.FunctionDef):
        return len(node.body) == 1 and ast.get_docstring(node) is not None
    return isinstance(node, ast.ClassDef)


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
