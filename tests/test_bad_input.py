"""Unusable input ends with exit status 2 and one line, and leaves nothing behind."""

import errno
import gzip
import os
import re
import signal
import subprocess

import numpy as np
import pytest

from framework_parity.common.commands.report_folder import check_folder, prepare_folder, writing
from framework_parity.common.core import device
from framework_parity.common.core.cache import CACHE_VARIABLE
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.data.fashion_mnist.files import FILES
from framework_parity.common.environments.backend import ROOT
from framework_parity.compare import main
from tests.helpers import COMPARE, PLAIN, REPORT, SMALL, check_complaint, run


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def refuse(cache, tmp_path):
    """Run ``compare.py``; it must refuse and write nothing."""
    (tmp_path / "here").mkdir()

    def check(arguments, *parts):
        before = sorted(tmp_path.rglob("*"))
        words = [*COMPARE, *arguments]
        if "--out" not in arguments:
            words += ["--out", tmp_path / "out"]
        check_complaint(run(words, cache, cwd=tmp_path / "here"), *parts)
        assert sorted(tmp_path.rglob("*")) == before

    return check


def case(*arguments, parts=()):
    return pytest.param(arguments, parts, id=" ".join(arguments))


@pytest.fixture
def refuse_here(cache, tmp_path, monkeypatch, capfd):
    """The same in the tests' own process, which is quicker."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.chdir(tmp_path)

    def check(arguments, *parts, out=("--out", tmp_path / "out")):
        before = sorted(tmp_path.rglob("*"))
        status = main([*map(str, arguments), *map(str, out)])
        said = capfd.readouterr()
        check_complaint(subprocess.CompletedProcess(arguments, status, said.out, said.err), *parts)
        assert sorted(tmp_path.rglob("*")) == before

    yield check
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("--nonsense",), ("--lr", "nan"), (PLAIN, "--data", __file__ + ".npz")],
)
def test_one_line_and_nothing_written(refuse, arguments):
    refuse(arguments, *arguments[-1:])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        case("nonsense", parts=("nonsense", PLAIN, "compare.py list")),
        case(PLAIN, "../common", parts=("../common",)),
        case("--implementation", "slick", parts=("slick", "scratch", "concise")),
        case("--device", "abacus", parts=("abacus", "cpu", "gpu")),
        case("--lr", "-1", parts=("lr", "-1")),
        case("--lr", "nan", parts=("lr", "nan")),
        case("--lr", "inf", parts=("lr", "inf")),
        case("--lr", "fast", parts=("--lr", "fast")),
        case("--sigma", "-0.1", parts=("sigma", "-0.1")),
        case("--sigma", "nan", parts=("sigma",)),
        case("--sigma", "inf", parts=("sigma",)),
        case("--max-epochs", "0", parts=("max_epochs", "0")),
        case("--max-epochs", "-3", parts=("max_epochs", "-3")),
        case("--max-epochs", "1.5", parts=("--max-epochs", "1.5")),
        case("--batch-size", "0", parts=("batch_size", "0")),
        case("--batch-size", "-256", parts=("batch_size", "-256")),
        case("--batch-size", "1" + 30 * "0", parts=("batch_size",)),
        case("--seed", "-1", parts=("seed", "-1")),
        case("--dtype", "float16", parts=("dtype", "float16", "float32")),
        case("--jobs", "0", parts=("--jobs", "0")),
        case("--jobs", "-2", parts=("--jobs", "-2")),
        case("--threads", "0", parts=("--threads", "0")),
        case("--timeout", "0", parts=("--timeout",)),
        case("--timeout", "nan", parts=("--timeout", "nan")),
        case("--timeout", "inf", parts=("--timeout", "inf")),
        case("--python", PLAIN, parts=("--python", PLAIN, "BACKEND=PATH")),
        case("--python", "nonsense=/usr/bin/python3", parts=("nonsense", PLAIN)),
        case("--data", "mnist", parts=("data", "mnist", "fashion-mnist")),
        case("--data", "synthetic:0x8x3", parts=("synthetic", "0x8x3")),
        case("--data", "synthetic:10x8", parts=("synthetic:10x8",)),
        case("--data", "nowhere.npz", parts=("nowhere.npz",)),
        case("--data", "digits", "--data-dir", ".", parts=("data-dir",)),
        case("--data", "synthetic:9x2x1", parts=("synthetic:9x2x1", "two classes")),
        case("--fail-on", "agree", parts=("--fail-on", "agree")),
        case("--find-links", "~nobody-here/x", parts=("--find-links", "~nobody-here/x")),
        case("seeds", "--margin-loss", "inf", parts=("--margin-loss", "finite", "inf")),
        case("seeds", "--margin-accuracy", "inf", parts=("--margin-accuracy", "finite", "inf")),
        case("seeds", "--margin-accuracy", "nan", parts=("--margin-accuracy", "nan")),
        case("seeds", "--level", "nan", parts=("--level", "nan")),
        case("seeds", "--count", "0", parts=("--count", "0")),
        case("seeds", "--count", "1", parts=("--count", "2 seeds or more", "received 1")),
        case("--nonsense", parts=("expected", "received --nonsense", "--help")),
        case("--max-epoch", "3", parts=("received --max-epoch",)),
        case("--lr", "fast", parts=("--lr: expected a number; received 'fast'",)),
        case("--seed", "1.5", parts=("--seed: expected a whole number; received '1.5'",)),
        case("--lr", parts=("--lr: expected a value; received none",)),
        case("--quiet=yes", parts=("--quiet: expected no value; received 'yes'",)),
        case("--data", "digits", "--data", "a.npz", parts=("--data: expected one", "a.npz")),
        case("--lr", "0.1", "--lr", "0.2", parts=("--lr: expected one value", "0.2")),
        case("--python", f"{PLAIN}=a", "--python", f"{PLAIN}=b", parts=("--python", f"{PLAIN}=b")),
        case(PLAIN, PLAIN, parts=("expected each one once", PLAIN)),
        case(f"{PLAIN}==2.0", f"{PLAIN}==2.0", parts=("once", f"{PLAIN}==2.0")),
        case(
            *("--implementation", "concise", "--implementation", "concise"),
            parts=("--implementation: expected each one once; received concise twice",),
        ),
    ],
)
def test_values(refuse_here, arguments, parts):
    refuse_here(arguments, *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        case("plan", "plan", "--threads", "0", parts=("--threads", "0")),
        case("plan", "plan", "--jobs", "-1", parts=("--jobs", "-1")),
        case("plan", "plan", "--timeout", "0", parts=("--timeout",)),
        case("plan", "plan", "--repeat", "3", parts=("compare.py plan", "--repeat")),
        case("plan", "plan", "--baseline", "x", parts=("compare.py plan", "--baseline")),
        case("plan", "plan", "--threshold", "5", parts=("compare.py plan", "--threshold")),
        case("plan", "plan", "--csv", "c.csv", parts=("compare.py plan", "--csv")),
        case("plan", "plan", "--out", "o", parts=("compare.py plan", "--out")),
        case("plan", "plan", PLAIN, parts=("compare.py plan", PLAIN)),
        case("list", "setup", parts=("compare.py list", "setup")),
        case("bisect", parts=("expected RANGE; received none; compare.py bisect --help",)),
        case("--out", "a", "--out", "b", PLAIN, parts=("--out: expected one value", "b")),
        case("--list", "--setup", parts=("--list", "use: compare.py list")),
    ],
)
def test_what_a_command_does_not_take(refuse_here, arguments, parts):
    refuse_here(arguments, *parts, out=())


def test_a_gpu_that_the_machine_has_not(refuse_here, monkeypatch):
    monkeypatch.setattr(device, "DRIVERS", ())
    refuse_here(("--device", "gpu"), "device: expected", "; received ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        case("--sigma", "1e39", parts=("sigma", "1e+39", "float32")),
        case("--lr", "1e39", parts=("lr", "1e+39", "float32")),
        case("--max-epochs", "2000000000", parts=("max_epochs",)),
    ],
)
def test_values_that_the_data_or_the_type_cannot_hold(refuse, arguments, parts):
    size = "synthetic:3000000x1x2" if "--max-epochs" in arguments else "synthetic:30x4x3"
    refuse([PLAIN, "--quiet", "--data", size, *arguments], *parts)


def write_gzip(path, content):
    path.write_bytes(gzip.compress(content, 1))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda path: path.mkdir(), "received nothing there"),
        (lambda path: path.write_bytes(b"no gzip"), "gzip"),
        (lambda path: path.write_bytes(gzip.compress(bytes(9000))[:-20]), "cut off"),
        (lambda path: write_gzip(path, bytes(1000)), "1000"),
        (lambda path: write_gzip(path, bytes(next(iter(FILES.values())).size_bytes)), "SHA-256"),
    ],
    ids=["missing", "corrupt", "truncated", "short", "wrong-checksum"],
)
def test_data_dir(refuse_here, tmp_path, damage, part):
    name = next(iter(FILES))
    folder = tmp_path / "publisher"
    folder.mkdir()
    damage(folder / f"{name}.gz")
    refuse_here([PLAIN, "--data-dir", folder], folder / name, part)


def examples(**changes):
    """The arrays of a user's file; None leaves one out."""
    random = np.random.default_rng(0)
    X, y = random.random((30, 4), np.float32), np.arange(30) % 3
    arrays = {"X_train": X[:20], "y_train": y[:20], "X_val": X[20:], "y_val": y[20:]} | changes
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        (examples(y_val=None), ("y_val",)),
        (examples(y_train=np.arange(19) % 3), ("y_train", "20 and 19")),
        (examples(y_train=np.arange(20) % 3 - 1), ("y_train", "-1")),
        (examples(y_val=np.arange(10)), ("y_val", "9")),
        (examples(y_train=np.full(20, 1000)), ("1000",)),
        (examples(y_train=np.arange(20) % 3 + 0.5), ("y_train", "float64")),
        (examples(X_train=np.full((20, 4), np.nan)), ("X_train", "not finite")),
        (examples(X_val=np.full((10, 4), 1e300)), ("X_val", "float32")),
        (examples(X_val=np.ones((10, 5), np.float32)), ("X_val", "(5,)")),
        (examples(X_train=np.array([[{}] * 4] * 20)), ("savez",)),
        ({}, ("X_train", "none")),
        (examples(y_train=np.zeros(20, int), y_val=np.zeros(10, int)), ("two classes",)),
    ],
    ids=[
        "missing",
        "lengths",
        "negative",
        "unseen",
        "huge",
        "fractions",
        "nan",
        "overflow",
        "widths",
        "pickled",
        "empty",
        "one class",
    ],
)
def test_npz(refuse_here, tmp_path, arrays, parts):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    refuse_here([PLAIN, "--data", path], path, *parts)


@pytest.mark.parametrize("kind", ["file", "below a file", "system", "endless"])
def test_out_that_cannot_be_written(refuse, tmp_path, kind):
    file = tmp_path / "file"
    file.write_text("kept")
    out = {
        "file": file,
        "below a file": file / "deep" / "out",
        "system": "/proc/out",
        "endless": tmp_path / ("a" * 300),
    }[kind]
    refuse([PLAIN, *SMALL, "--out", out], out)
    assert file.read_text() == "kept"


def test_out_that_holds_a_report_is_kept(refuse, tmp_path):
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / REPORT).write_text("dear to me")
    (out / "runs" / "record").write_text("dear, too")
    refuse([PLAIN, *SMALL, "--out", out], out, REPORT, "--overwrite")
    assert (out / REPORT).read_text() == "dear to me"
    assert (out / "runs" / "record").read_text() == "dear, too"


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("name", ["runs", "seed-1"])
def test_folders_of_somebody_else_are_kept(refuse, tmp_path, name, overwrite):
    out = tmp_path / "project"
    (out / name).mkdir(parents=True)
    (out / name / "precious").write_text("kept")
    refuse([PLAIN, *SMALL, "--out", out, *overwrite], out, name)
    assert (out / name / "precious").read_text() == "kept"


def test_what_is_called_almost_as_our_folders_is_kept(tmp_path):
    (tmp_path / "plan").mkdir()
    for name in ("seed-data", "seed-1b", "seed-", "seed-1", "seed-20"):
        (tmp_path / name / "plan").mkdir(parents=True)
        (tmp_path / name / "plan" / "plan.json").touch()
    (tmp_path / "plan" / "plan.json").touch()
    (tmp_path / "seed-1.txt").touch()
    check_folder(tmp_path, overwrite=False)
    prepare_folder(tmp_path, overwrite=False)
    kept = {"seed-data", "seed-1b", "seed-", "seed-1.txt"}
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (KeyError("runs"), "no 'runs'"),
        (ValueError("two\n  lines"), "two lines"),
        (EOFError(), "EOFError"),
    ],
)
def test_an_exception_is_told_in_words(error, words):
    assert told(error) == words


@pytest.mark.parametrize("folder", ["common", "benchmarks", "backends"])
def test_no_complaint_shows_an_exception_as_python_does(folder):
    """But for what ends its process, of which nothing else is known."""
    raw = r"repr\(error\)|\{error!r\}(?!, which ends)|error\.strerror or"
    for path in (ROOT / folder).rglob("*.py"):
        assert not re.findall(raw, path.read_text(encoding="utf-8")), path


# What the system refuses


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EFBIG])
def test_a_folder_that_cannot_be_written_any_more_is_named(tmp_path, number):
    with pytest.raises(ParityError, match="free space there") as error, writing(tmp_path):
        raise OSError(number, os.strerror(number), "some/file")
    assert "some/file" in str(error.value)
    assert os.strerror(number) in str(error.value)
    assert error.value.exit_status == 2


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO, errno.ENOENT])
def test_the_folder_is_not_blamed_for_what_else_the_system_refuses(tmp_path, number):
    with pytest.raises(ParityError, match=r": expected .*; received ") as error, writing(tmp_path):
        raise OSError(number, os.strerror(number), "some/file")
    assert os.strerror(number) in str(error.value)
    assert "space" not in str(error.value)
    assert error.value.exit_status == 3
    assert error.value.__cause__.errno == number


def test_a_folder_that_went_away_is_named(tmp_path):
    with pytest.raises(ParityError, match="name another --out"), writing(tmp_path / "gone"):
        (tmp_path / "gone" / "file").read_text()
