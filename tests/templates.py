"""The templates of sentences in source code: what a program can say, read without running it."""

import ast
import re

from framework_parity.common.environments.backend import ROOT

JUDGE = (
    "commands/bisection",
    "commands/bisection_state",
    "commands/judge_arrays",
    "commands/judge_comparison",
    "commands/model_comparison",
    "commands/regression",
    "commands/reprobe",
    "commands/run_facts",
    "commands/seeds",
    "commands/accepted_differences",
    "judging/baseline_difference",
    "judging/candidates",
    "judging/causes",
    "judging/diagnosis",
    "judging/equivalence",
    "judging/golden_record",
    "judging/grades",
    "judging/judge",
    "judging/ladder",
    "judging/metric_cause",
    "judging/metrics",
    "judging/layers",
    "judging/model_judge",
    "judging/model_ladder",
    "judging/optimizer_causes",
    "judging/optimizer_changes",
    "judging/optimizer_rule",
    "judging/softmax_judge",
    "judging/record_check",
    "judging/record_difference",
    "judging/release_change",
    "judging/replay_fit",
    "judging/thresholds",
    "report/advice",
    "report/bisection",
    "report/findings",
    "report/flips",
    "report/junit",
    "report/markdown",
    "report/report",
    "report/spreadsheet",
    "report/terminal",
    "report/wording",
    "training/feeding",
    "worker/lockstep",
)
"""Files of ``common/`` whose sentences end in a report."""

VALUE = "\0"
"""Stands for what is put into a template."""

PROSE = re.compile(r"[a-z]{2,}[,;:]? [a-z]{2,}")
"""Two words: what has them is taken for a part of a sentence."""


def templates(names=JUDGE):
    """Every piece of prose in these files, as ``file:line`` and a pattern of what it becomes.

    Docstrings are left out, and complaints that are raised: those say what was expected and
    received, and end a comparison or a run with its record instead of judging it.
    """
    for name in names:
        path = ROOT / "common" / f"{name}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in prose(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            literal = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            if any(PROSE.search(text) for text in literal if text):
                text = re.sub(r"\s+", " ", "".join(VALUE if t is None else t for t in literal))
                text = text.replace("{}", VALUE)
                pattern = ".*?".join(re.escape(text) for text in text.strip().split(VALUE))
                yield f"{name}.py:{node.lineno}", pattern


def prose(tree):
    """The strings of a tree that are no docstrings and not raised."""
    skipped = set()
    for node in ast.walk(tree):
        raised = isinstance(node, ast.Raise)
        refused = isinstance(node, ast.Call) and "refuse" in ast.unparse(node.func)
        alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        hint = isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None
        helping = isinstance(node, ast.keyword) and node.arg in ("help", "description", "epilog")
        if raised or refused or alone or helping:
            skipped |= set(ast.walk(node))
        elif hint:
            skipped |= set(ast.walk(node.annotation))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in ("_unusable", "_ended_early"):
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and node not in skipped:
            skipped |= {part for part in node.values if isinstance(part, ast.Constant)}
            yield node
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node
