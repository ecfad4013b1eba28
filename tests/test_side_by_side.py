"""side_by_side: that its columns are the code that runs, and how they are shown."""

import ast
import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from playwright.sync_api import sync_playwright
from rich.console import Console

from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import IMPLEMENTATIONS, ROOT
from framework_parity.common.notebook.code_style import InkStyle
from framework_parity.common.notebook.step_code import STEPS
from framework_parity.common.report.notebook import INKS
from framework_parity.compare import side_by_side
from tests.conftest import BACKENDS, EXTERNAL
from tests.helpers import FRAMEWORKS, PLAIN, copy_code
from tests.test_page import CHROMIUM, FLAGS

EVERY = [(step, implementation) for step, has in STEPS.items() for implementation in has]
every_step = pytest.mark.parametrize(("step", "implementation"), EVERY)
NEW = "newcomer"
MARKUP = "<script>alert(1)</script> & <b>"


def shown(step, implementation=None, backends=tuple(BACKENDS), **options):
    return side_by_side(step, backends, implementation=implementation, **options)


def without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or node.body
    return ast.dump(tree)


def definition(path, name):
    """What a file defines under a name, found again by other means."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    *owners, name = name.split(".")
    for owner in owners:
        (found,) = [n for n in body if isinstance(n, ast.ClassDef) and n.name == owner]
        body = found.body
    named = [
        node
        for node in body
        if getattr(node, "name", None) == name
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name)
    ]
    (found,) = named
    return ast.Module([found], [])


# The code


@every_step
def test_every_backend_has_every_step(step, implementation):
    columns = shown(step, implementation).columns
    assert [column.backend for column in columns] == list(BACKENDS)
    for column in columns:
        assert column.missing is None
        for fragment in column.fragments:
            shared = fragment.path.is_relative_to(ROOT / "common")
            assert shared or column.backend in (fragment.path.parent.name, fragment.path.stem)


@every_step
def test_it_is_the_code_of_the_file(step, implementation):
    for column in shown(step, implementation).columns:
        for fragment in column.fragments:
            expected = without_docstrings(definition(fragment.path, fragment.name))
            assert without_docstrings(ast.parse(fragment.code)) == expected
            lines = fragment.path.read_text(encoding="utf-8").splitlines()
            assert fragment.code.splitlines()[0] == lines[fragment.line - 1].strip()
            assert {line.strip() for line in fragment.code.splitlines()} <= set(
                map(str.strip, lines)
            )


@every_step
def test_docstrings_are_left_out_and_nothing_else(step, implementation):
    for less, more in zip(
        shown(step, implementation).columns,
        shown(step, implementation, docstrings=True).columns,
        strict=True,
    ):
        for short, whole in zip(less.fragments, more.fragments, strict=True):
            tree = ast.parse(short.code)
            named = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            assert not any(ast.get_docstring(node) for node in named)
            lines = whole.path.read_text(encoding="utf-8").splitlines()[whole.line - 1 :]
            whole_lines = whole.code.splitlines()
            assert [line.strip() for line in whole_lines] == [
                line.strip() for line in lines[: len(whole_lines)]
            ]


def test_training_includes_what_an_epoch_calls():
    for column in shown("training").columns:
        names = [fragment.name for fragment in column.fragments]
        assert len(names) == len(set(names))
        if names != ["Trainer.train_step"]:  # which the eager trainer's epoch calls
            assert "Trainer.fit_epoch" in names
            assert any(name.rpartition(".")[2] in ("_step", "_update") for name in names)


def test_frameworks_are_shown_by_default():
    assert [column.backend for column in side_by_side("softmax").columns] == FRAMEWORKS


def test_implementations_are_chosen():
    assert shown("model").implementations == ("scratch",)
    assert shown("model").columns == shown("model", "scratch").columns
    assert shown("model", "concise").columns != shown("model").columns
    assert shown("training", "concise") == shown("training", "scratch")
    assert shown("training").implementations == IMPLEMENTATIONS


@pytest.mark.parametrize("name", EXTERNAL)
def test_other_languages_are_said_to_be_such(name):
    (column,) = shown("softmax", backends=[name]).columns
    assert column.missing == f"not in Python: read backends/{name}/"
    assert column.missing in str(shown("softmax", backends=[name]))


def test_unknown_steps_are_refused_with_those_there_are():
    with pytest.raises(ParityError) as caught:
        side_by_side("sofmax")
    assert str(caught.value) == (
        "step: expected one of softmax, model, loss, accuracy, optimizer, training, prediction; "
        "received 'sofmax'; choose among them"
    )


@pytest.mark.parametrize("implementation", ["concise", "by hand"])
def test_implementations_without_the_step_are_refused(implementation):
    with pytest.raises(ParityError, match="expected scratch for the step softmax; received"):
        side_by_side("softmax", implementation=implementation)


def test_unknown_backends_are_refused():
    with pytest.raises(ParityError, match="backend: expected some of"):
        side_by_side("softmax", ["nowhere"])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one backend more, of which there is only one file."""
    folder = tmp_path_factory.mktemp("project")
    copy_code(folder, [*BACKENDS, *EXTERNAL])
    new = folder / "backends" / NEW
    new.mkdir()
    (new / "requirements.txt").write_text(f"{NEW}==1.0\n")
    (new / "scratch.py").write_text(f'def softmax(X):\n    return "{MARKUP}"\n')
    return folder


def said_by(project, program):
    """What a program prints that imports the copy's modules."""
    process = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            f"from framework_parity.compare import side_by_side\n{program}",
        ],
        cwd=project,
        env=os.environ | {"COLUMNS": "400"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_a_new_backend_has_a_column(project):
    said = said_by(project, "print(side_by_side('softmax'))")
    assert said.splitlines()[2].split() == sorted([*FRAMEWORKS, NEW])
    assert f'return "{MARKUP}"' in said


def test_a_step_that_a_backend_lacks_is_said_to_be_missing(project):
    said = said_by(project, f"print(side_by_side('training', ['{NEW}']))")
    assert f"backends/{NEW}/ has no step of that name" in said


def test_a_change_to_the_code_is_a_change_of_the_column(project):
    program = f"print(side_by_side('softmax', ['{PLAIN}']).columns[0].text)"
    before = said_by(project, program)
    path = project / "backends" / PLAIN / "scratch.py"
    path.write_text(path.read_text().replace("X_exp", "exponentials"))
    assert said_by(project, program) == before.replace("X_exp", "exponentials") != before


# How it is shown


class Elements(HTMLParser):
    """Tags, and the text of each ``pre``."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.code, self.inside = set(), [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "pre":
            self.code.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data):
        if self.inside:
            self.code[-1] += data


@every_step
def test_html_holds_the_code_and_where_it_is_from(step, implementation):
    found = shown(step, implementation)
    text = found._repr_html_()
    fragments = [fragment for column in found.columns for fragment in column.fragments]
    assert [code.rstrip() for code in Elements(text).code] == [f.code for f in fragments]
    assert Elements(text).tags == {"div", "pre", "span"}
    for fragment in fragments:
        place = f"{fragment.path.relative_to(ROOT).as_posix()}:{fragment.line} {fragment.name}"
        assert html.escape(place) in text
    assert str(ROOT) not in text
    assert re.search(r'<span style="color: #[0-9a-f]{6}', text, re.IGNORECASE)


def test_markup_in_code_stays_text(project):
    said = said_by(project, "print(side_by_side('softmax')._repr_html_())")
    assert "<script" not in said
    assert any(MARKUP in code for code in Elements(said).code)


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


COLOURS = {f"#{style['color']}" for _, style in InkStyle if style["color"]} | set(INKS.values())


@pytest.mark.parametrize("paper", ["#ffffff", "#111111"])
@pytest.mark.parametrize("ink", sorted(COLOURS))
def test_colours_are_readable_on_light_and_on_dark(ink, paper):
    lighter, darker = sorted([luminance(ink), luminance(paper)], reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4


def test_wide_terminals_have_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    lines = str(side_by_side("softmax")).splitlines()
    assert lines[0] == "softmax, scratch"
    assert lines[2].split() == FRAMEWORKS
    assert sum("def softmax" in line for line in lines) == 1


@pytest.mark.parametrize("width", [10, 80, 120, 170])
@pytest.mark.parametrize("step", STEPS)
def test_no_width_breaks_a_line_of_code(monkeypatch, width, step):
    monkeypatch.setenv("COLUMNS", str(width))
    found = side_by_side(step)
    lines = str(found).splitlines()
    widest = max(column.width for column in found.columns)
    assert max(map(len, lines)) <= max(width, widest)
    for column in found.columns:
        for line in column.text.splitlines():
            assert any(line in shown for shown in lines)


def test_a_prompt_shows_it_and_so_does_rich(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    found = side_by_side("softmax")
    assert repr(found) == str(found)
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(found)
    assert [line.rstrip() for line in captured.get().splitlines()] == str(found).splitlines()


@pytest.fixture(scope="module")
def tab():
    """A page of Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page()
        browser.close()


def corners(tab, step, width):
    """Where the columns of a step are on a screen of some width, which they do not exceed."""
    tab.set_viewport_size({"width": width, "height": 800})
    tab.set_content(side_by_side(step)._repr_html_())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [tab.locator(f"body > div:nth-child({i + 2})").bounding_box() for i in range(4)]
    return [(box["x"], box["y"]) for box in boxes]


@pytest.mark.parametrize("step", ["softmax", "training"])
def test_columns_stand_next_to_each_other_where_there_is_room(tab, step):
    (x, y), (next_x, next_y), *_ = corners(tab, step, 1000)
    assert next_x > x
    assert next_y == y
    narrow = corners(tab, step, 380)
    assert {x for x, _ in narrow} == {narrow[0][0]}
    assert len({y for _, y in narrow}) == len(narrow)


def test_all_stand_in_a_row_where_they_fit(tab):
    assert len({y for _, y in corners(tab, "softmax", 2200)}) == 1
