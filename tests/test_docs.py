"""The documentation: it builds without a warning or a network, and what it says is so."""

import contextlib
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import griffe
import pytest
import yaml
from griffe_inherited_docstrings import InheritDocstringsExtension
from playwright.sync_api import sync_playwright

import framework_parity.benchmarks.__main__ as benchmarks
from framework_parity.benchmarks import detection, envelope
from framework_parity.common.commands import judge_arrays as elsewhere
from framework_parity.common.commands.main import COMMANDS, read
from framework_parity.common.commands.pytest_plugin import OPTIONS
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.program import clean_environment
from tests.conftest import BACKENDS
from tests.test_page import CHROMIUM, FLAGS

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/results/*.md")),
]
OFFLINE = """
import socket, sys

def refuse(*_, **__):
    raise OSError("no network in this test")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""
PROGRAMS = {
    "compare.py": read,
    **{
        f"compare.py {name}": lambda words, name=name: read([*name.split(), *words])
        for name in COMMANDS
    },
    **{
        f"-m benchmarks {name}": lambda words, name=name: benchmarks.main([name, *words])
        for name in (*benchmarks.NAMES, benchmarks.OTHER)
    },
    "-m benchmarks.detection": detection.main,
    "-m benchmarks.envelope": envelope.main,
    "-m framework_parity.common.commands.judge_arrays": elsewhere.main,
}
"""What the pages call, by the words that they call it by, and what takes the options."""
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def named(page):
    return page.relative_to(ROOT).as_posix()


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built where no socket connects."""
    folder = tmp_path_factory.mktemp("site")
    words = ["build", "--strict", "--config-file", CONFIG, "--site-dir", folder]
    process = subprocess.run(
        [sys.executable, "-c", OFFLINE, *map(str, words)],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "WARNING" not in process.stderr
    return folder


class Document(HTMLParser):
    """Links, what is loaded, and anchors of a page."""

    LOADED = ("src", "srcset", "poster", "data", "xlink:href")

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in self.LOADED or (tag == "link" and name == "href"):
                self.loaded.append(value)
            elif name == "href":
                self.links.append(value)


@pytest.fixture(scope="module")
def documents(site):
    return {path: Document(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_and_every_backend_is_in_the_site(site):
    expected = [re.sub(r"README\.md$", "index.md", named(page)) for page in PAGES]
    expected += [f"reference/backends.{name}.md" for name in BACKENDS]
    expected += [f"reference/{name}.md" for name in ("compare", "trainer", "causes")]
    for path in expected:
        assert (site / path).with_suffix(".html").exists(), path


def test_links_and_anchors_lead_somewhere(site, documents):
    wrong, followed = [], 0
    for path, document in documents.items():
        for link in document.links:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":  # which is shown at any address
                continue
            followed += 1
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            anchors = documents[there].anchors if there in documents else {""}
            if not there.exists() or unquote(parts.fragment) not in anchors:
                wrong.append((path.relative_to(site).as_posix(), link))
    assert not wrong
    assert followed > 500


def test_nothing_is_loaded_from_elsewhere(site, documents):
    for path, document in documents.items():
        for address in document.loaded:
            parts = urlsplit(address)
            assert parts.scheme in ("", "data"), (path, address)
            assert not parts.netloc, (path, address)
            if not parts.scheme and path.name != "404.html":
                assert (path.parent / unquote(parts.path)).exists(), (path, address)
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text("utf-8"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_and_asks_nobody(site, scheme):
    assert CHROMIUM, "expected Chromium; received none; install it: apt-get install chromium"
    wrong, asked, shades = [], [], set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_context(offline=True, color_scheme=scheme).new_page()
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        for path in ("index.html", "docs/verdict.html", "reference/trainer.html"):
            tab.goto((site / path).as_uri())
            assert tab.locator("h1").first.is_visible()
            script = "getComputedStyle(document.body).backgroundColor"
            shades.add(int(re.findall(r"\d+", tab.evaluate(script))[0]) > 127)
        browser.close()
    assert not wrong
    assert not [address for address in asked if not address.startswith(("file:", "data:", "blob:"))]
    assert shades == {scheme == "light"}


# What it says of the code


@pytest.fixture(scope="module")
def code():
    """What is documented, as read by the tool that makes the reference of it."""
    own = CONFIG.parent / "docstrings.py"
    extensions = griffe.load_extensions(InheritDocstringsExtension(), str(own))
    loader = griffe.GriffeLoader(search_paths=[ROOT], allow_inspection=False, extensions=extensions)
    loader.load("framework_parity")
    loader.resolve_aliases(implicit=True)
    return loader.modules_collection


def documented():
    contents = yaml.load(CONFIG.read_text(), Loader=yaml.BaseLoader)["extra"]["reference"]  # noqa: S506
    return [name for names in contents.values() for name in names]


def public(found):
    """A module's or a class's own public functions and classes, and their methods."""
    for name, member in found.members.items():
        if name.startswith("_") or member.is_alias:
            continue
        if member.is_function or member.is_class:
            yield member
        if member.is_class:
            yield from public(member)


@pytest.mark.parametrize("name", documented())
def test_what_is_documented_has_docstrings(code, name):
    found = code[name]
    assert found.docstring, name
    for member in public(found):
        assert member.docstring, member.path


def public_interface(code, name):
    """Functions and classes of a public interface, and the methods of those that it defines."""
    module = code[f"framework_parity.backends.{name}"]
    for exported in module.exports:
        member = module[str(exported)]
        target = member.final_target if member.is_alias else member
        if target.is_function or target.is_class:
            yield target
        if target.is_class and target.path.startswith("framework_parity.backends."):
            yield from public(target)


def check_says(member):
    """A docstring says what, and what each argument is, unless it refers to another."""
    assert member.docstring, f"{member.path}: has no docstring"
    text = member.docstring.value
    first = text.splitlines()[0]
    assert first.endswith("."), member.path
    refers = re.search(r"[Aa]rguments (as of|are those of)", text)
    parameters = member.parameters if member.is_function else member.all_members.get("__init__")
    if parameters is None or (member.is_class and parameters.is_alias):
        return
    parameters = parameters if member.is_function else parameters.parameters
    for parameter in parameters:
        if parameter.name not in ("self", "cls") and not refers:
            listed, mentioned = rf"^ *{parameter.name}: ", rf"``[^`]*\b{parameter.name}\b"
            said = re.search(f"{listed}|{mentioned}", text, re.MULTILINE)
            assert said, f"{member.path}: its docstring says nothing of {parameter.name}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_public_interface_says_what_its_parts_take(code, backend):
    seen = 0
    for member in public_interface(code, backend):
        seen += 1
        check_says(member)
    assert seen > 15


def test_the_entry_points_say_what_they_take_and_raise(code):
    for name in ("compare", "bisect", "compare_model"):
        check_says(code[f"framework_parity.compare.{name}"].final_target)
        assert "ParityError: " in code[f"framework_parity.compare.{name}"].docstring.value
    for member in public(code["framework_parity.common.report.report.Report"]):
        check_says(member)
    for member in public(code["framework_parity.common.training.trainer.Trainer"]):
        check_says(member)


# What it says of the commands


@pytest.fixture(scope="module")
def options():
    """The options of each program that pages call, as its help names them."""
    found = {"pytest": {f"--parity-{name}" for name in OPTIONS}}
    for name, call in PROGRAMS.items():
        with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
            call(["--help"])
        found[name] = set(OPTION.findall(printed.getvalue()))
        assert "--help" in found[name]
    return found


def commands(page):
    """The lines of a page's blocks that call one of the programs, each with the program."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            known = (*PROGRAMS, "pytest")
            found = [name for name in known if re.search(rf"(^|[\s/]){re.escape(name)}\b", line)]
            if found and re.match(r"(\$ |[\w./]*python |[A-Z_]+=\S+ |compare\.py|pytest)", line):
                yield max(found, key=len), line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_options_that_a_page_shows_exist(options, page):
    for program, line in commands(page):
        unknown = set(OPTION.findall(line.partition(program)[2])) - options[program]
        assert not unknown, line
    everything = set().union(*options.values())
    for code_span in re.findall(r"`(--[a-z][^`]*)`", page.read_text(encoding="utf-8")):
        assert set(OPTION.findall(code_span)) <= everything, code_span


def test_the_pages_show_commands():
    assert len([line for page in PAGES for line in commands(page)]) > 30


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_command_is_spelled_alike_wherever_it_can_be_copied(page):
    """Of a checkout ``python compare.py``, of an installation ``framework-parity``."""
    for program, line in commands(page):
        if program.startswith("compare.py"):
            said = line.startswith("compare.py: ")
            assert said or "python" in line.partition("compare.py")[0], line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_that_a_page_shows_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_a_page_links_to_exist(page):
    """Where the page lies, as a reader of the repository follows its links."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not urlsplit(target).scheme:
            assert (page.parent / Path(target)).exists(), target
