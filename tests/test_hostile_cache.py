"""A damaged cache mends itself, one of others is refused; two at once; folders that have no room.

A fault is injected at each write, rename and start of a process in turn: after it, the next run
succeeds.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from framework_parity.common.commands.report_folder import claim
from framework_parity.common.core import files
from framework_parity.common.core.cache import CACHE_VARIABLE, cache_directory
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.files import new_folder_beside, write_whole
from framework_parity.common.core.machine import check_memory
from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.data.named import open_data
from framework_parity.common.environments import environment, filled_once
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.environments.environment import environment_folder
from framework_parity.common.environments.lock import wait_for
from framework_parity.common.execution.launcher import mend
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from tests.helpers import COMPARE, PLAIN, SMALL, run, user_environment
from tests.test_environments import PACKAGE, backend
from tests.test_record import make_record

# Damage


@pytest.fixture
def built(tmp_path, monkeypatch):
    """An environment in a cache, and how often it was built; pip and the import are left out."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    builds = []

    def quick(command, folder, what, *_):
        place = Path(command[-1] if what == "venv" else command[0]).parent
        if what == "venv":
            builds.append(what)
            (folder / "bin").mkdir()
            (folder / "bin" / "python").symlink_to(sys.executable)
            return ""
        if what == "pip":
            site = place.parent / "lib" / "python3" / "site-packages"
            (site / f"{PACKAGE}-1.0.dist-info").mkdir(parents=True)
            about = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n"
            (site / f"{PACKAGE}-1.0.dist-info" / "METADATA").write_text(about)
            (site / f"{PACKAGE}.py").touch()
            return ""
        return "version 1.0"

    monkeypatch.setattr(environment, "run_program", quick)
    wanted = backend(tmp_path / "backends", f"{PACKAGE}==1.0\n")
    assert find_environment(wanted).reason is None
    return wanted, environment_folder(wanted), builds


def test_a_library_that_lost_files_is_named_with_what_to_delete(built):
    wanted, folder, _ = built
    found = find_environment(wanted)
    assert mend(found, "ModuleNotFoundError: No module named 'x.y'").endswith(
        f"; if {folder} is damaged, delete it: it is built again"
    )
    assert mend(found, "ValueError") == ""
    assert mend(Environment("x", Path(sys.executable)), "ImportError") == ""


def rewrite(content):
    return lambda folder: (folder / "complete.json").write_bytes(content)


def delete(pattern):
    def damage(folder):
        for path in list(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def fifo(folder):
    (folder / "complete.json").unlink()
    os.mkfifo(folder / "complete.json")


DAMAGES = {
    "empty": rewrite(b""),
    "half": rewrite(b'{"version": "1'),
    "zeros": rewrite(bytes(100)),
    "a list": rewrite(b"[]"),
    "no version": rewrite(b"{}"),
    "a number": rewrite(b'{"version": 1}'),
    "odd packages": rewrite(b'{"version": "1.0", "gave_way": "x"}'),
    "another release": rewrite(b'{"version": "2.0"}'),
    "deep": rewrite(b"[" * 10**5),
    "a pipe": fifo,
    "no interpreter": delete("bin/python"),
    "no library": delete("lib/*/*/*.py"),
    "no packages": delete("lib"),
    "nothing else": delete("[bl]*"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_environment_is_built_again(built, damage):
    wanted, folder, builds = built
    DAMAGES[damage](folder)
    told = []
    here = find_environment(wanted, build=False)
    assert here.python is None
    assert "damaged" in here.reason
    found = find_environment(wanted, tell=told.append)
    assert (found.reason, found.version) == (None, "1.0")
    assert len(builds) == 2
    assert any("building it again" in words for words in told)
    told.clear()
    assert find_environment(wanted, tell=told.append).python == found.python
    assert (len(builds), told) == (2, [])


@pytest.mark.parametrize("moment", ["venv", "pip", "importing parity_probe", "write"])
def test_a_build_that_fails_at_any_moment_is_not_offered(built, monkeypatch, moment):
    wanted, folder, _ = built
    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        real = environment.run_program

        def fail(*words, **_):
            if moment in (words[2], words):
                raise OSError(28, "No space left on device")
            return real(*words)

        patch.setattr(environment, "run_program", fail)
        if moment == "write":
            patch.setattr(filled_once, "write_whole", lambda *_, **__: fail(None, None, "write"))
        found = find_environment(wanted)
        assert found.python is None
        assert "No space left" in found.reason
        assert not folder.exists()
    assert find_environment(wanted).reason is None


@pytest.mark.parametrize(("mode", "whose"), [(0o777, "everybody"), (0o1777, "everybody")])
def test_a_cache_that_others_may_write_to_is_refused(tmp_path, monkeypatch, mode, whose):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    with pytest.raises(ParityError, match=f"yours alone.*received one that {whose}.*chmod go-w"):
        cache_directory()
    cache.chmod(0o700)
    assert cache_directory() == cache


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_cache_of_somebody_else_is_refused(tmp_path, monkeypatch):
    os.chown(tmp_path, 12345, -1)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(ParityError, match="user 12345 owns"):
        cache_directory()


# Files keep the user's umask


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_new_files_have_the_mode_that_the_user_wants(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a" / "b", "text", lasting=True)
        with new_folder_beside(tmp_path / "c") as made:
            made.rename(tmp_path / "c")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a/b", "a", "c")]
    assert modes == [0o666 & ~umask, 0o777 & ~umask, 0o777 & ~umask]
    (tmp_path / "a" / "b").chmod(0o604)
    write_whole(tmp_path / "a" / "b", "another")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o604


# Two at once


def test_a_folder_is_of_one_run_at_a_time(tmp_path):
    done = claim(tmp_path / "out")
    with pytest.raises(ParityError, match="that another run is using; wait for its end"):
        claim(tmp_path / "out")
    done()
    claim(tmp_path / "out")()
    assert not list((tmp_path / "out").iterdir())


def test_two_comparisons_to_one_folder_are_one(tmp_path):
    words = [*COMPARE, PLAIN, *SMALL, "--quiet", "--out", str(tmp_path / "out")]
    both = [
        subprocess.Popen(
            words,
            env=user_environment(tmp_path / "cache"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    (line,) = "".join(said).splitlines()
    assert "another run is using" in line or "holds report.json" in line
    assert json.loads((tmp_path / "out" / "report.json").read_text())["verdict"] == "agree"


def test_a_lock_is_waited_for_with_a_word_and_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("framework_parity.common.environments.lock.SILENT_SECONDS", 0.05)
    held, told = wait_for(tmp_path / "lock", 1), []
    with pytest.raises(TimeoutError, match=r"another process has held .*lock for 0\.1 s"):
        wait_for(tmp_path / "lock", 0.1, tell=told.append)
    assert told[0] == f"waiting for another process, which holds {tmp_path / 'lock'}"
    with pytest.raises(InterruptedError):
        wait_for(tmp_path / "lock", 10, lambda: True)
    held.release()
    wait_for(tmp_path / "lock", 1).release()


# No room


SIZES = {
    "--repeat": ["--repeat", "1" + "0" * 23],
    "--threshold": ["--threshold", "1e308"],
    "--drift-loss": ["--drift-loss", "1e300"],
    "--jobs": ["--jobs", "1" + "0" * 30],
    "--threads": ["--threads", "99999999"],
    "seed": ["--seed", "9" * 60],
}


@pytest.mark.parametrize("option", SIZES)
def test_numbers_that_cannot_be_are_refused(option, capsys):
    from framework_parity.compare import main

    assert main([PLAIN, *SIZES[option], "--out", "/nowhere/out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{option}: expected " in line


def test_sizes_beyond_the_memory_are_refused_with_numbers(tmp_path, monkeypatch):
    numbers = r"of which [\d,]+ bytes are free; received .*: [\d,]+ bytes"
    with pytest.raises(ParityError, match=numbers):
        Synthetic(10, 10, 10**10)
    with pytest.raises(ParityError, match=numbers):
        open_data("synthetic:99999999999999999999x9x9", 8)
    data = Synthetic(20, 4, 3)
    from framework_parity.common.training.recipe import Recipe

    with pytest.raises(ParityError, match=f"max_epochs: expected .*{numbers}"):
        Plan.make(Recipe("a", max_epochs=2**31 - 1), data, tmp_path)
    model = OwnModel(tmp_path / "m.py", {"W": (10**12, 10**6)}, ())
    with pytest.raises(ParityError, match=f"PARAMETERS: expected .*{numbers}"):
        model.check_memory(4, 3)
    check_memory("nothing", 0, "nothing", "")


FAULTS = {
    "write": (files, "_write"),
    "rename": (os, "replace"),
    "sync": (os, "fsync"),
    "arrays": (np, "savez"),
    "folder": (Path, "mkdir"),
}
ERRORS = [OSError(28, "No space left on device"), OSError(24, "Too many open files")]
DEEDS = {
    "a file": lambda f: write_whole(f / "a", {"a": 1}, lasting=True),
    "arrays": lambda f: write_whole(f / "a.npz", {"a": np.ones(3)}),
    "a record": lambda f: (shutil.rmtree(f / "record", True), make_record().save(f / "record")),
    "a data set": lambda f: Synthetic(20, 4, 3).save(f / "data"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("deed", DEEDS)
def test_after_a_fault_nothing_is_left_and_the_next_succeeds(tmp_path, monkeypatch, fault, deed):
    """At the first, the second and the third time that it is called; interrupts, too."""
    for turn in range(3):
        for error in (*ERRORS, KeyboardInterrupt()):
            folder = tmp_path / f"{turn}-{type(error).__name__}-{error}"
            folder.mkdir()
            place, name = FAULTS[fault]
            real, calls = getattr(place, name), []

            def fail(*words, real=real, calls=calls, error=error, turn=turn, **more):
                calls.append(words)
                if len(calls) == turn + 1:
                    raise error
                return real(*words, **more)

            with monkeypatch.context() as patch, suppress(OSError, ParityError, KeyboardInterrupt):
                patch.setattr(place, name, fail)
                DEEDS[deed](folder)
            assert not [path for path in folder.iterdir() if path.name.startswith(".")]
            DEEDS[deed](folder)
            assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("turn", [0, 1])
def test_a_process_that_cannot_be_started_is_a_row_and_the_next_is_started(
    tmp_path, monkeypatch, turn
):
    from tests.test_worker_pool import contenders, execution, train

    real, calls = subprocess.Popen, []

    def fail(*words, **more):
        calls.append(words)
        if len(calls) == turn + 1:
            raise OSError(11, "Resource temporarily unavailable")
        return real(*words, **more)

    plan, runs = execution(tmp_path, None), contenders()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", fail)
        outcomes = list(train(plan, runs).values())
    assert [outcome.status for outcome in outcomes].count("failed") == 1
    assert "Resource temporarily unavailable" in str(outcomes[turn].reason)
    assert all(outcome.status == "done" for outcome in train(plan, runs).values())


def test_a_record_survives_a_fault_in_the_next_one(tmp_path):
    make_record().save(tmp_path / "record")
    with pytest.raises(TypeError):
        make_record(odd=np.array([{}])).save(tmp_path / "record")
    assert Record.load(tmp_path / "record")


@pytest.fixture
def small(tmp_path):
    """A function that makes a folder a file system of so many kibibytes."""
    mounted = []

    def mount(folder, size):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"mode=700,size={size}k", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.xfail("no file systems can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("which", ["cache", "out", "tmp"])
def test_a_disk_without_room_is_one_line_and_the_next_run_succeeds(tmp_path, small, which):
    """For the first run there is none; the second has another place, and the same cache."""
    places = {name: tmp_path / name for name in ("cache", "out", "tmp")}
    small(places[which], 16)
    places["tmp"].mkdir(exist_ok=True)
    words = [*COMPARE, PLAIN, *SMALL, "--quiet", "--out"]
    first = run([*words, places["out"] / "a"], places["cache"], TMPDIR=str(places["tmp"]))
    assert first.returncode in ((0, 2, 3) if which == "tmp" else (2, 3)), first.stdout
    assert "Traceback" not in first.stderr
    assert len(first.stderr.splitlines()) == (first.returncode != 0), first.stderr
    assert which == "tmp" or "No space left" in first.stderr
    if which == "out":
        return
    subprocess.run(["mount", "-o", "remount,mode=700,size=64m", str(places[which])], check=True)
    second = run([*words, tmp_path / "b"], places["cache"], TMPDIR=str(places["tmp"]))
    assert second.returncode == 0, second.stderr


def test_a_system_without_files_is_not_the_inputs_fault(tmp_path, monkeypatch, capsys):
    from framework_parity.common.commands import main as command_line

    def exhausted(_):
        try:
            raise OSError(24, "Too many open files")
        except OSError:
            raise ParityError("x", "a file", "none") from None

    monkeypatch.setattr(command_line, "read", exhausted)
    assert command_line.main(["list"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1
