"""Where data sets come from: a folder, the cache, the system, the publishers, Debian's package.

Standard library and NumPy only: workers and notebooks reach this module through
:class:`common.datasets.FashionMNIST`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException, HTTPMessage, InvalidURL
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from common.cache import DATA_VARIABLE, cache_directory
from common.data import DataModule
from common.datasets import FASHION_MNIST_LABELS, Digits, Synthetic, load_npz
from common.errors import ParityError

Progress = Callable[[str, float], None]
"""A progress callback: what is being done, and the part done, 0 to 1."""


class File(NamedTuple):
    """One of the publisher's files, unpacked: packages recompress it, so gzip's bytes differ."""

    size_bytes: int
    sha256: str
    header_bytes: int


FILES = {
    "train-images-idx3-ubyte": File(
        47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 16
    ),
    "train-labels-idx1-ubyte": File(
        60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 8
    ),
    "t10k-images-idx3-ubyte": File(
        7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 16
    ),
    "t10k-labels-idx1-ubyte": File(
        10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 8
    ),
}
"""The four files, in the order of :data:`common.data.ARRAYS`."""

STORED_SHA256 = "82b832ff99836bee1c9d8d49ac782ece3100a581c11374552753136851629f29"
"""What :meth:`DataModule.sha256` says of Fashion-MNIST in stored form."""

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SUBFOLDERS = ("", "fashion-mnist", "FashionMNIST/raw")
PUBLISHERS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
)
PACKAGE = "dataset-fashion-mnist"

DOWNLOAD_SECONDS = 300.0
"""Limit of the whole download; what is left of it is divided evenly among the hosts left."""
STALL_SECONDS = 10.0
"""A connection that is silent for so long has failed."""
TRIES = 3
BACKOFF_SECONDS = 1.0
"""Wait before the second try; doubled before each further one."""
APT_SECONDS = 180.0

DATA_SETS = (
    "fashion-mnist, digits, synthetic, synthetic:EXAMPLESxFEATURESxCLASSES, or the path of an "
    ".npz file"
)

Contents = dict[str, bytes]
"""The unpacked, verified files by name."""


class DataUnavailable(ParityError):  # noqa: N818 - a state of the world
    """Fashion-MNIST can be had from none of its sources.

    Args:
        reasons: what was tried, and why it gave nothing.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.tried = " ".join(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))
        super().__init__(
            f"fashion-mnist: expected it from one of its sources; received {self.tried}; connect "
            f"to the network, install the package {PACKAGE}, or give --data-dir a folder with the "
            "publisher's four files"
        )


class SourceError(Exception):
    """Why one source gave nothing: one line for the list in :class:`DataUnavailable`."""

    def __init__(self, reason: str) -> None:
        super().__init__(_one_line(reason))


class TransientError(SourceError):
    """A failure that may be gone on the next try."""


# What a run asks for


def open_data(
    name: str | None,
    batch_size: int,
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Path, DataModule, str | None]:
    """Find or make a data set, and store it where workers can memory-map it.

    Args:
        name: ``fashion-mnist``, ``digits``, ``synthetic``,
            ``synthetic:EXAMPLESxFEATURESxCLASSES``, or a path that ends in ``.npz``; if None,
            Fashion-MNIST, or digits where it cannot be had.
        batch_size: examples per batch.
        data_dir: a folder with Fashion-MNIST's four files.
        progress: told of downloads.

    Returns:
        The folder for :meth:`DataModule.open`, the data set opened from there, and, where digits
        had to stand in for Fashion-MNIST, the sentence that says so on top of every report.

    Raises:
        ParityError: if the name, a file or the cache is unusable.
        DataUnavailable: if Fashion-MNIST was named and no source has it.
    """
    notice = None
    if name is None:
        try:
            folder = fetch_fashion_mnist(data_dir, progress)
        except DataUnavailable as unavailable:
            try:
                folder = _store(Digits())
            except ParityError as error:
                raise ParityError(f"{unavailable}; and digits instead: {error}") from None
            notice = (
                "This run used digits, because no data set was named and fashion-mnist could not "
                f"be had: {unavailable.tried}."
            )
    elif name == "fashion-mnist":
        folder = fetch_fashion_mnist(data_dir, progress)
    elif data_dir is not None:
        raise ParityError(
            f"data-dir: expected the data set fashion-mnist with it; received {name}; leave out "
            "--data-dir or name fashion-mnist"
        )
    elif name == "digits":
        folder = _store(Digits())
    elif name == "synthetic":
        folder = _store(Synthetic())
    elif sizes := re.fullmatch(r"synthetic:([0-9]+)x([0-9]+)x([0-9]+)", name):
        folder = _store(_synthetic(name, *map(_whole, sizes.groups())))
    elif name.endswith(".npz"):
        folder = _store(load_npz(Path(os.path.expanduser(name))))
    else:
        raise ParityError(f"data: expected {DATA_SETS}; received {name!r}; choose one of these")
    return folder, DataModule.open(folder, batch_size), notice


def _whole(digits: str) -> int:
    # int() refuses thousands of digits; anything so long is too large for memory all the same.
    return int(digits[:20])


def _synthetic(name: str, num_examples: int, num_inputs: int, num_outputs: int) -> DataModule:
    try:
        return Synthetic(num_examples, num_inputs, num_outputs)
    except (MemoryError, OverflowError, ValueError) as error:
        raise ParityError(
            f"{name}: expected a data set that fits in memory; received {_one_line(str(error))}; "
            "ask for fewer examples or features"
        ) from None


def _store(data: DataModule) -> Path:
    # Named after all facts, of which the content's digest is one: what is there already is either
    # the same or broken, so no run ever replaces what another run reads.
    digest = hashlib.sha256(json.dumps(data.facts(), sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.name)[:60].strip(".-") or "data"
    folder = cache_directory() / "data" / f"{name}-{digest[:16]}"
    data.save(folder)
    return folder


# Fashion-MNIST


def fetch_fashion_mnist(
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
    *,
    https_only: bool = True,
) -> Path:
    """Find or fetch Fashion-MNIST, verify it, and keep it in the cache.

    In this order: ``data_dir`` or else the environment variable ``FRAMEWORK_PARITY_DATA``; the
    cache; the folder of Debian's and Ubuntu's package; the publishers; that package, fetched and
    unpacked without root.

    Args:
        data_dir: a folder with the publisher's four files, with or without ``.gz``, in it or in
            its subfolder ``fashion-mnist`` or ``FashionMNIST/raw``. If given, nothing else is
            tried.
        progress: told of downloads.
        https_only: refuse to download over anything else; tests serve plain HTTP.

    Returns:
        The folder in the cache, for :meth:`DataModule.open`.

    Raises:
        ParityError: if ``data_dir`` or the cache is unusable.
        DataUnavailable: if no source has the data set.
    """
    folder = cache_directory() / "data" / "fashion-mnist"
    named = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE) or None
    if named is not None:
        path = Path(os.path.expanduser(named))
        try:
            contents = read_folder(path)
        except SourceError as reason:
            remedy = f"unset {DATA_VARIABLE}" if data_dir is None else "leave out --data-dir"
            raise ParityError(
                f"{reason}; put the publisher's file there, or {remedy} to have it fetched"
            ) from None
        if _refusal_of_stored(folder):
            _fashion_mnist(contents, str(path.absolute())).save(folder)
        return folder

    broken = _refusal_of_stored(folder)
    if not broken:
        return folder
    reasons = [f"the cache: {broken}"]
    for place, read in _sources(progress, https_only):
        try:
            contents = read()
        except SourceError as reason:
            told = str(reason)
            reasons.append(told if told.startswith(place) else f"{place}: {told}")
        else:
            _fashion_mnist(contents, place).save(folder)
            return folder
    raise DataUnavailable(reasons)


def _sources(
    progress: Progress | None, https_only: bool
) -> Iterator[tuple[str, Callable[[], Contents]]]:
    yield str(SYSTEM_FOLDER), lambda: read_folder(SYSTEM_FOLDER)
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    got: Contents = {}
    for number, base in enumerate(PUBLISHERS):

        def download(base: str = base, hosts_left: int = len(PUBLISHERS) - number) -> Contents:
            now = time.monotonic()
            limit = now + (deadline - now) / hosts_left
            return _download(base, got, limit, progress, https_only)

        yield urlsplit(base).netloc, download
    yield f"the package {PACKAGE}", lambda: fetch_package(progress)


def _fashion_mnist(contents: Mapping[str, bytes], source: str) -> DataModule:
    X_train, y_train, X_val, y_val = (
        np.frombuffer(contents[name], np.uint8, offset=file.header_bytes)
        for name, file in FILES.items()
    )
    return DataModule(
        X_train.reshape(-1, 784),
        y_train,
        X_val.reshape(-1, 784),
        y_val,
        name="fashion-mnist",
        divisor=255.0,
        num_outputs=10,
        image_shape=(28, 28),
        labels=FASHION_MNIST_LABELS,
        source=source,
    )


def _refusal_of_stored(folder: Path) -> str | None:
    """Why the cache's copy is not Fashion-MNIST, or None if it is."""
    if not folder.exists():
        return "nothing there"
    try:
        facts = DataModule.open(folder, verify=True).facts()
    except ParityError as error:
        return _one_line(str(error))
    expected = {
        "name": "fashion-mnist",
        "divisor": 255.0,
        "num_outputs": 10,
        "image_shape": (28, 28),
        "labels": FASHION_MNIST_LABELS,
        "sha256": STORED_SHA256,
    }
    for key, value in expected.items():
        if facts[key] != value:
            return f"{folder}: {key}: expected {value}; received {facts[key]}"
    return None


# Files


def read_folder(folder: Path) -> Contents:
    """Read and verify the four files of a folder.

    Raises:
        SourceError: naming the file that is missing or wrong.
    """
    if not folder.is_dir():
        raise SourceError(
            f"{folder}: expected a folder with {', '.join(FILES)}; received nothing there"
        )
    contents = {}
    for name in FILES:
        places = [
            folder / subfolder / f"{name}{suffix}"
            for subfolder in SUBFOLDERS
            for suffix in ("", ".gz")
        ]
        path = next((path for path in places if os.path.isfile(path)), None)
        if path is None:
            raise SourceError(
                f"{folder / name}: expected this file, with or without .gz; received nothing there"
            )
        try:
            with path.open("rb") as file:
                contents[name] = unpack(name, file, packed=path.suffix == ".gz")
        except SourceError as reason:
            raise SourceError(f"{path}: {reason}") from None
        except OSError as error:
            raise SourceError(f"{path}: expected a readable file; received {error}") from None
    return contents


def unpack(name: str, file: IO[bytes], *, packed: bool = True) -> bytes:
    """Content of one of the four files, verified.

    Args:
        name: its name, without ``.gz``.
        file: its bytes.
        packed: whether they are compressed with gzip.

    Raises:
        SourceError: if the content is not the publisher's; TransientError if it is cut off.
    """
    size, sha256, _ = FILES[name]
    try:
        # One byte more than there should be shows what is too long, and makes gzip check its sum.
        content = (gzip.GzipFile(fileobj=file) if packed else file).read(size + 1)
    except EOFError:
        raise TransientError(
            f"expected {size} bytes, unpacked; received a gzip file that is cut off"
        ) from None
    except (OSError, zlib.error) as error:
        raise SourceError(f"expected a readable {'gzip ' * packed}file; received {error}") from None
    if len(content) != size:
        received = len(content) if len(content) < size else "more"
        raise SourceError(f"expected {size} bytes, unpacked; received {received}")
    if (received := hashlib.sha256(content).hexdigest()) != sha256:
        raise SourceError(f"expected content with SHA-256 {sha256}; received {received}")
    return content


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:1000]


# Download


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, https_only: bool) -> None:
        self.https_only = https_only

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        fp.close()  # or urllib reads the body, however long
        if self.https_only:
            _check_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise SourceError(f"expected HTTPS; received the address {url}")


def _download(
    base: str, got: Contents, deadline: float, progress: Progress | None, https_only: bool
) -> Contents:
    """Download what is missing from one publisher.

    Args:
        base: address of the folder, with a slash at its end.
        got: the files so far; what is downloaded is added.
        deadline: end of the time allowed, on the monotonic clock.
        progress: told of the part of all bytes that is there.
        https_only: refuse anything else, redirections included.
    """
    opener = urllib.request.build_opener(_Redirects(https_only))
    opener.addheaders = [("User-Agent", "framework-parity")]
    total = sum(file.size_bytes for file in FILES.values())

    def report(name: str, part: float) -> None:
        if progress:
            done = sum(FILES[there].size_bytes for there in got)
            fraction = (done + part * FILES[name].size_bytes) / total
            progress(f"fashion-mnist: downloading from {urlsplit(base).netloc}", fraction)

    for name in [name for name in FILES if name not in got]:
        url = f"{base}{name}.gz"
        if https_only:
            _check_https(url)
        for remaining in reversed(range(TRIES)):
            report(name, 0.0)
            try:
                packed = _get(opener, url, FILES[name].size_bytes, deadline, report, name)
                content = unpack(name, io.BytesIO(packed))
                break
            except SourceError as reason:
                wait = BACKOFF_SECONDS * 2 ** (TRIES - 1 - remaining)
                last = not remaining or time.monotonic() + wait >= deadline
                if last or not isinstance(reason, TransientError):
                    raise SourceError(f"{name}.gz: {reason}") from None
                time.sleep(wait)
        report(name, 1.0)
        got[name] = content
    return got


def _get(
    opener: urllib.request.OpenerDirector,
    url: str,
    size_bytes: int,
    deadline: float,
    report: Callable[[str, float], None],
    name: str,
) -> bytes:
    # Deflate adds 5 bytes per 16 KiB of what it cannot compress; gzip's header is a few more.
    limit = size_bytes + size_bytes // 1000 + 1024
    body = bytearray()
    stall = min(STALL_SECONDS, deadline - time.monotonic())
    if stall <= 0:
        raise SourceError("expected an end in time; received none before the time limit")
    try:
        with opener.open(url, timeout=stall) as response:
            length = response.headers.get("Content-Length", "")
            whole = int(length) if length.isdecimal() and len(length) < 12 else 0
            while chunk := response.read1(1 << 16):
                body += chunk
                if len(body) > limit:
                    raise SourceError(f"expected at most {limit} bytes; received more")
                if time.monotonic() > deadline:
                    raise SourceError(
                        f"expected an end in time; received {len(body)} bytes till then"
                    )
                if whole:
                    report(name, min(len(body) / whole, 1.0))
    except urllib.error.HTTPError as error:
        error.close()
        kind = TransientError if error.code >= 500 or error.code in (408, 429) else SourceError
        raise kind(f"expected the file; received HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        # An unknown host; an untrusted certificate, which is a ValueError; an unusable redirection.
        permanent = isinstance(cause, (socket.gaierror, ValueError, InvalidURL))
        kind = SourceError if permanent else TransientError
        raise kind(f"expected an answer; received {cause or type(cause).__name__}") from None
    if len(body) < whole:
        raise TransientError(f"expected {whole} bytes; received {len(body)}")
    return bytes(body)


# Debian's package


def fetch_package(progress: Progress | None = None) -> Contents:
    """Fetch Debian's package with apt-get, as any user, and read the four files from it.

    Apt verifies the package's signature; nothing is installed, and the system is left as it is.

    Raises:
        SourceError: if there is no apt-get, or it cannot have the package.
    """
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise SourceError(f"expected the program {program}; received nothing on the PATH")
    report = progress or (lambda what, fraction: None)
    what = f"fashion-mnist: fetching the package {PACKAGE}"
    deadline = time.monotonic() + APT_SECONDS
    try:
        with tempfile.TemporaryDirectory(prefix="fashion-mnist-") as temporary:
            folder = Path(temporary)
            report(what, 0.0)
            package = _apt_download(folder, deadline)
            report(what, 0.9)
            archive = _output(["dpkg-deb", "--fsys-tarfile", str(package)], folder, deadline)
            contents = read_archive(archive)
            report(what, 1.0)
            return contents
    except OSError as error:
        raise SourceError(
            f"expected to run apt-get in a temporary folder; received {error}"
        ) from None


def _apt_download(folder: Path, deadline: float) -> Path:
    """Let apt-get put the package into a folder: with the system's lists, or else with its own."""
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=2"]
    for scheme in ("http", "https"):
        apt += ["-o", f"Acquire::{scheme}::Timeout={STALL_SECONDS:.0f}"]
    private = [*apt, "-o", "Acquire::Languages=none"]
    for option, place in (
        ("Dir::State", "state"),
        ("Dir::State::Lists", "state/lists"),
        ("Dir::Cache", "cache"),
    ):
        private += ["-o", f"{option}={folder / place}"]
    download = ["download", PACKAGE]
    try:
        _output([*apt, *download], folder, deadline)
    except SourceError:  # no lists, as in a container's image, or lists that have grown old
        for place in ("state/lists/partial", "cache/archives/partial"):
            (folder / place).mkdir(parents=True)
        # One unreachable third-party list, or a hook that needs root, fails the update though the
        # list that matters came: the download decides.
        with contextlib.suppress(SourceError):
            _output([*private, "update"], folder, deadline)
        _output([*private, *download], folder, deadline)
    packages = sorted(folder.glob(f"{PACKAGE}_*.deb"))
    if not packages:
        raise SourceError("expected a package from apt-get; received none")
    return packages[0]


def _output(command: list[str], folder: Path, deadline: float) -> bytes:
    """Standard output of a program: no shell, no input, no time beyond the deadline."""
    program = command[0]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that its helpers end with it
    ) as process:
        try:
            output, errors = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise SourceError(
                    f"expected an end of {program} in time; received none in {APT_SECONDS:.0f} s"
                ) from None
            raise
    if process.returncode:
        lines = errors.decode(errors="replace").splitlines()
        failures = [line for line in lines if line.startswith("E:")] or lines[-1:]
        said = failures[-1] if failures else "nothing on standard error"
        raise SourceError(
            f"expected success of {program}; received exit status {process.returncode}: {said}"
        )
    return output


def read_archive(archive: bytes) -> Contents:
    """The four files in the package's tar archive; whatever else it holds is left alone.

    Nothing is extracted to disk, so no member's path or link can lead anywhere.

    Raises:
        SourceError: if one is missing or not the publisher's.
    """
    prefix = "./usr/share/datasets/fashion-mnist/"
    contents = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as members:
            wanted = {f"{prefix}{name}.gz": name for name in FILES}
            for member in members:
                name = wanted.get(member.name)
                file = members.extractfile(member) if name and member.isreg() else None
                if name and file:
                    contents[name] = unpack(name, file)
    except tarfile.TarError as error:
        raise SourceError(f"expected a tar archive in the package; received {error}") from None
    if missing := [name for name in FILES if name not in contents]:
        raise SourceError(
            f"expected four files in the package; received none named {missing[0]}.gz"
        )
    return contents
