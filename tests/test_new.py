"""A backend that is begun by a command: what it writes, and that it runs when it is filled."""

import re

import pytest

from framework_parity.common.commands.new import PLACE, TEMPLATE, new
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import IMPLEMENTATIONS, ROOT, python_backends
from tests.conftest import BACKENDS
from tests.helpers import COMPARE, PLAIN, check_complaint, run

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*/backends/*/__init__.py"))


@pytest.fixture
def begun(tmp_path):
    """The folder of a backend that is begun where one other is."""
    other = tmp_path / PLAIN
    other.mkdir()
    (other / "requirements.txt").write_text("\n".join(map(str, BACKENDS[PLAIN].requirements)))
    return new("beginning", tmp_path, "1.2")


def test_it_is_discovered_with_both_implementations(begun):
    found = python_backends(begun.parent)["beginning"]
    assert found.implementations == IMPLEMENTATIONS
    assert found.pinned_version == "1.2"
    assert set(map(str, found.requirements[1:])) == set(map(str, BACKENDS[PLAIN].requirements))


def test_what_it_lacks_is_marked(begun):
    code = (begun / "__init__.py").read_text()
    compile(code, "beginning", "exec")
    for node in re.findall(r"raise NotImplementedError(.*)", code):
        assert PLACE in node
    assert code.count(PLACE) > 15


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_example_is_what_it_writes_with_its_places_filled(example):
    """And tests/test_contributing.py runs the example."""
    code, pattern = TEMPLATE.read_text().format(name=example.parent.name), ""
    for line in code.splitlines():
        pattern += r"(?:.*\n)*" if PLACE in line else re.escape(line) + r"\n"
    assert re.fullmatch(pattern, example.read_text())
    assert PLACE not in example.read_text()
    assert len(example.read_text().splitlines()) <= 150


def test_there_is_an_example():
    assert EXAMPLES


@pytest.mark.parametrize("name", ["beginning", "no name", "class", ""])
def test_a_name_that_cannot_be_is_refused(begun, name):
    with pytest.raises(ParityError, match=r"^new: expected an import name .*; received .*; "):
        new(name, begun.parent, "1.2")


def test_a_release_that_is_none_is_refused_before_anything_is_written(begun):
    with pytest.raises(ParityError, match=r"^new: expected a release to pin; received 'abc'; "):
        new("another", begun.parent, "abc")
    assert not (begun.parent / "another").exists()


def test_the_command_begins_it_where_backends_are(tmp_path):
    """A taken name, none and two are one line each."""
    for words, part in (
        ([PLAIN], "an import name without a folder"),
        ([], "expected NAME; received none"),
        (["one", "two"], "received two"),
    ):
        check_complaint(run([*COMPARE, "new", *words], tmp_path), part)
