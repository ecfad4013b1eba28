"""Environments: found, built whole or not at all, once."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from framework_parity.common.core.cache import CACHE_VARIABLE, cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments import environment
from framework_parity.common.environments.backend import ROOT, Environment
from framework_parity.common.environments.discovery import discover, find_environment
from framework_parity.common.environments.environment import environment_folder
from framework_parity.common.execution.worker_pool import worker_name
from tests.conftest import BACKENDS, EXTERNAL
from tests.helpers import PLAIN, interpreter, program, user_environment

PACKAGE = "parity_probe"


def backend(folder, requirements, name=PACKAGE):
    """A backend without code: what is looked for is its interpreter."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "requirements.txt").write_text(requirements)
    return discover(folder)[name]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; a package that pip finds without a network, in a folder."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    (tmp_path / "packages").mkdir()
    info = f"{PACKAGE}-1.0.dist-info"
    contents = {
        f"{PACKAGE}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    path = tmp_path / "packages" / f"{PACKAGE}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(name, content)
    return tmp_path / "cache"


def test_a_backend_is_a_folder_with_requirements(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "scratch.py").write_text("class SoftmaxRegressionScratch:\n    pass\n")
    (tmp_path / "full" / "requirements.txt").write_text(
        "# why\nfull==2.1  # pinned\n\nnumpy==1.0\n"
    )
    (found,) = discover(tmp_path).values()
    assert found.name == "full"
    assert found.implementations == ("scratch",)
    assert found.pinned_version == "2.1"
    assert found.is_framework


@pytest.mark.parametrize("lines", ["", "full", "full>=1.0", "full = 1.0", "numpy>=1\nfull==1.0"])
def test_requirements_that_pin_no_framework_are_refused(tmp_path, lines):
    with pytest.raises(ParityError, match=r"full/requirements\.txt: expected .* pin a release"):
        backend(tmp_path, lines, "full")


@pytest.mark.parametrize("name", BACKENDS)
def test_requirements_are_pinned(name):
    for requirement in BACKENDS[name].requirements:
        (pin,) = requirement.specifier
        assert pin.operator == "=="


def test_every_change_of_the_requirements_has_its_folder(cache, tmp_path):
    lines = ("a==1.0\n", "a==1.1\n", "a==1.0\nb==1.0\n", "b==1.0\n")
    folders = [environment_folder(backend(tmp_path / "backends", text)) for text in lines]
    assert len(set(folders)) == len(lines)
    for folder in folders:
        assert folder.is_relative_to(cache)
    same = backend(tmp_path / "backends", "# a comment\na==1.0\n")
    assert environment_folder(same) == folders[0]


def test_the_current_interpreter_serves_where_it_satisfies(cache):
    found = find_environment(BACKENDS[PLAIN], build=False)
    assert found.python == Path(sys.executable)
    assert found.reason is None
    assert not cache.exists()


def test_nothing_is_built_unasked(cache, tmp_path):
    found = find_environment(backend(tmp_path, "absent==1.0\n"), build=False)
    assert found.python is None
    assert "compare.py setup" in found.reason
    assert not cache.exists()


@pytest.mark.parametrize("kind", ["relative", "on the path", "home"])
def test_a_named_interpreter_is_found_as_a_shell_finds_it(tmp_path, monkeypatch, kind):
    (tmp_path / "bin").mkdir()
    interpreter(tmp_path / "bin" / "own-python", "nothing", "exit 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    named = {"relative": "bin/own-python", "on the path": "own-python", "home": "~/bin/own-python"}
    found = find_environment(BACKENDS[PLAIN], Path(named[kind]))
    assert found.python == tmp_path / "bin" / "own-python"


@pytest.mark.parametrize(
    ("script", "part"),
    [
        (None, "No such file"),
        ("exit 1", "said nothing"),
        ("echo broken library >&2; exit 1", "broken library"),
        ("echo hello", "version"),
        ("kill -9 $$", "said nothing"),
    ],
)
def test_a_named_interpreter_that_is_none_gives_its_reason(tmp_path, script, part):
    path = tmp_path / "python"
    if script is not None:
        program(path, script)
    found = find_environment(BACKENDS[PLAIN], path)
    assert found.python is None
    assert str(path) in found.reason
    assert part in found.reason


def test_the_home_of_nobody_is_no_place_for_an_interpreter():
    for named in (BACKENDS[PLAIN], *EXTERNAL.values()):
        found = find_environment(named, Path("~nobody-here/python"))
        assert found.python is None
        assert "~nobody-here/python: " in found.reason


def test_places_whose_names_are_not_utf_8_have_names_of_their_own(cache, tmp_path):
    places = [str(tmp_path / name) for name in ("caf\udce9", "caf\udce8")]
    wanted = backend(tmp_path / "backends", f"{PACKAGE}==1.0\n")
    assert len({environment_folder(wanted.at("1.0", [place])) for place in places}) == 2
    assert len({worker_name(Environment(PACKAGE, Path(place))) for place in places}) == 2


@pytest.mark.parametrize(
    ("package", "version"), [(PACKAGE, "1.0"), (f"{PACKAGE}-gpu", "1.0"), (None, "2.0")]
)
def test_a_build_by_another_name_has_its_version(tmp_path, package, version):
    """A framework's builds for GPUs may be a package of another name, or none at all."""
    places = tmp_path / "places"
    places.mkdir()
    (places / f"{PACKAGE}.py").write_text("__version__ = '2.0'\n")
    if package is not None:
        info = places / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{PACKAGE}.py,,\n")
    path = tmp_path / "python"
    program(path, f'PYTHONPATH={places} exec {sys.executable} "$@"')
    found = find_environment(backend(tmp_path / "backends", f"{PACKAGE}==1.0\n"), path)
    assert (found.reason, found.python, found.version) == (None, path, version)


# The cache


@pytest.mark.parametrize("named", ["caches", "~nobody-here/caches", "/caches"])
def test_the_cache_is_found_from_every_folder(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, named)
    assert cache_directory() == tmp_path / named


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="the convention of other systems")
def test_a_relative_place_of_all_caches_is_ignored(tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for named, place in (("caches", ".cache"), ("", ".cache"), (str(tmp_path / "a"), "a")):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert cache_directory() == tmp_path / place / "framework-parity"


# Building


def test_a_failed_build_leaves_nothing_and_gives_its_reason(cache, tmp_path):
    wanted = backend(tmp_path / "backends", f"{PACKAGE}==1.0\nabsent-package==1.0\n")
    told = []
    found = find_environment(wanted, tell=told.append)
    assert found.python is None
    assert "absent-package==1.0" in found.reason
    assert "\n" not in found.reason
    assert told[-1] == "installing"
    folder = environment_folder(wanted)
    assert not folder.exists()
    assert not [path for path in folder.parent.iterdir() if path.is_dir()]


def test_a_build_whose_import_fails_is_no_environment(cache, tmp_path, monkeypatch):
    # The environment itself is not the matter here: make one in no time.
    def quick(command, folder, what, *rest):
        if what.startswith("importing"):
            return run(command, folder, what, *rest)
        if what == "venv":
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").symlink_to(sys.executable)
        return ""

    run = environment.run_program
    monkeypatch.setattr(environment, "run_program", quick)
    wanted = backend(tmp_path / "backends", "absent-package==1.0\n", name="absent_package")
    found = find_environment(wanted)
    assert found.python is None
    assert "No module named 'absent_package'" in found.reason
    assert not environment_folder(wanted).exists()


BUILD = """
import sys
from pathlib import Path
from framework_parity.common.environments.discovery import discover, find_environment
name, folder = sys.argv[1:]
found = find_environment(discover(Path(folder))[name], tell=lambda what: print(what, flush=True))
print(found.python, found.version, found.reason)
"""


def test_four_builds_at_once_mend_what_an_interrupt_left_and_build_once(cache, tmp_path):
    wanted = backend(tmp_path / "backends", f"{PACKAGE}==1.0\n")
    folder = environment_folder(wanted)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("half of it")
    (folder / "complete.partial").write_text("{}")
    command = [sys.executable, "-c", BUILD, PACKAGE, str(tmp_path / "backends")]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=user_environment(cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(4)
    ]
    said = [process.communicate(timeout=300)[0].splitlines() for process in started]
    assert sorted("installing" in lines for lines in said) == [False, False, False, True]
    for lines in said:
        assert lines[-1] == f"{folder / 'bin' / 'python'} 1.0 None", lines
    assert json.loads((folder / "complete.json").read_text()) == {"version": "1.0"}
    # And it is found again, without a word, by whoever asks next.
    told = []
    found = find_environment(wanted, tell=told.append)
    assert (found.python, told) == (folder / "bin" / "python", [])
    shutil.rmtree(folder)
