"""The table of commands, their help, and that Python takes what the command line takes."""

import importlib
import inspect
import shlex
import subprocess
import sys
from dataclasses import fields

import pytest

from framework_parity import compare as public
from framework_parity.common.commands.main import COMMANDS, DEFAULT, read
from framework_parity.common.commands.options import described
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.report.report import Report
from framework_parity.compare import main
from tests.helpers import PLAIN

FOLDER = ROOT / "common" / "commands"


def function(name):
    """What does a command."""
    module, found = COMMANDS[name][0].split(":")
    return getattr(importlib.import_module(f"framework_parity.common.commands.{module}"), found)


def shown(words, capsys):
    """The help that words ask for."""
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_first_and_fits_a_narrow_terminal(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = shown(name.split(), capsys)
    usage, description, examples, *_ = text.split("\n\n")
    assert usage.startswith(f"usage: compare.py {name}")
    assert description.endswith((".", "that file gives it in", "holds."))
    assert examples.startswith("examples:\n  compare.py")
    assert any(line.startswith(f"  compare.py {name}") for line in examples.splitlines()) or (
        name == DEFAULT
    )
    assert max(map(len, text.splitlines())) <= 80
    for hint, said in described(function(name).options).values():
        assert said.text.split()[0] in text, hint


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_commands(name):
    """Their words are read, and no more."""
    lines = importlib.import_module(function(name).__module__).__doc__.splitlines()
    examples = [line.partition("compare.py")[2] for line in lines if line[:3] == "  c"]
    for example in examples:
        read(shlex.split(example.partition("   ")[0]))
    assert examples


def test_help_of_the_default_names_every_command(capsys):
    text = shown([], capsys)
    for name, (_, meaning) in COMMANDS.items():
        assert f"  {name:<14} {meaning}\n" in text
    for word in ("exit status: 0 agree", "130 interrupted", "docs/verdict.md", "--csv FILE"):
        assert word in text


def test_help_of_what_begins_several_commands_names_them(capsys):
    groups = {name.partition(" ")[0] for name in COMMANDS if " " in name}
    for group in groups:
        text = shown([group], capsys)
        for name, (_, meaning) in COMMANDS.items():
            assert (f"  {name:<14} {meaning}\n" in text) == name.startswith(f"{group} ")
    assert groups


def test_the_table_is_complete():
    taking = {path.stem for path in FOLDER.glob("*.py") if "\n@takes(" in path.read_text("utf-8")}
    assert {place.partition(":")[0] for place, _ in COMMANDS.values()} == taking


@pytest.mark.parametrize("name", COMMANDS)
def test_python_takes_what_the_command_line_takes(name):
    do = function(name)
    taken, options = inspect.signature(do), inspect.signature(do.options)
    assert [(p.name, p.kind, p.default) for p in taken.parameters.values()] == [
        (p.name, p.kind, p.default) for p in options.parameters.values()
    ]
    assert set(taken.parameters) == {field.name for field in fields(do.options)}
    for field, (_, said) in described(do.options).items():
        assert f"\n    {field}: {said.text}." in do.__doc__
    assert taken.return_annotation in (Report, int)


def test_what_gives_a_report_is_public():
    reporting = [
        do for do in map(function, COMMANDS) if inspect.signature(do).return_annotation is Report
    ]
    assert {do.__name__ for do in reporting} | {"main", "side_by_side"} == set(public.__all__)
    for name in public.__all__:
        assert getattr(public, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = public.nonsense


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "nonsense"),
        (
            ["baseline", "shw", "g.json"],
            "expected baseline save or baseline show; received baseline",
        ),
        (["list", "nonsense"], "received nonsense; compare.py list --help"),
        (["baseline"], "expected baseline save or baseline show; received baseline"),
        (["--bisect", "a>=1"], "expected a command; received --bisect; use: compare.py bisect"),
        (
            ["--model=mine.py"],
            "expected a command; received --model=mine.py; use: compare.py model",
        ),
        (["bisect", f"{PLAIN}>=1", "--by", "luck"], "--by: expected grade or bits; received luck"),
    ],
)
def test_what_is_no_command_is_one_line(words, said, capsys):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("compare.py: ")
    assert said in line


def test_python_refuses_what_the_command_line_refuses():
    with pytest.raises(ParityError, match="--by: expected grade or bits; received luck"):
        public.bisect(f"{PLAIN}>=1", by="luck")
    with pytest.raises(ParityError, match="--jobs: expected a number above zero; received 0"):
        public.compare([PLAIN], jobs=0)
    with pytest.raises(ParityError, match="--implementation: expected scratch or concise"):
        public.compare([PLAIN], implementations=["slick"])
    for wrong, said in (
        (
            {"backends": PLAIN},
            rf"backends: expected a list .* received '{PLAIN}'; write \['{PLAIN}'\]",
        ),
        ({"backends": [3]}, r"backends: expected a list in which each is a text; received \[3\]"),
        ({"implementations": "concise"}, r"--implementation: .*\['concise'\]"),
        ({"find_links": "."}, "--find-links: expected a list"),
        ({"lr": "fast"}, "--lr: expected a number; received 'fast'"),
        ({"max_epochs": 1.5}, "--max-epochs: expected a whole number; received 1.5"),
        ({"threads": "2"}, "--threads: expected a whole number; received '2'"),
        ({"timeout": None}, "--timeout: expected a number; received None"),
        ({"pythons": "x=y"}, "--python: expected a dict or None; received 'x=y'"),
        ({"out": 3}, "--out: expected a path or None; received 3"),
        ({"device": None}, "--device: expected a text; received None"),
        ({"backends": [PLAIN, PLAIN]}, f"once; received {PLAIN} twice"),
    ):
        with pytest.raises(ParityError, match=said):
            public.compare(**{"backends": [PLAIN]} | wrong)
    with pytest.raises(TypeError, match="nonsense"):
        public.compare([PLAIN], nonsense=1)


def test_a_command_loads_no_other():
    script = "import sys; from framework_parity.common.commands.main import read; read(['list']); "
    script += "print(*(name.rpartition('.')[2] for name in sys.modules if '.commands.' in name))"
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    others = {place.partition(":")[0] for place, _ in COMMANDS.values()} - {"list"}
    assert not others & set(process.stdout.split())
