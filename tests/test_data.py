"""Data sets: every source in its order, every unusable input, storage, batches.

Most tests use a Fashion-MNIST of 60 + 20 random images, whose digests are put in place of the
publisher's. The real one comes from apt, at the end.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from framework_parity.common.core.cache import CACHE_VARIABLE, DATA_VARIABLE
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data import data_module as data_module
from framework_parity.common.data import sources as fetch
from framework_parity.common.data.data_module import ARRAYS, DataModule
from framework_parity.common.data.datasets import Digits, FashionMNIST, Synthetic, load_npz
from framework_parity.common.data.fashion_mnist import files as four_files
from framework_parity.common.data.fashion_mnist import package, publishers
from framework_parity.common.data.named import open_data
from framework_parity.common.data.sources import DataUnavailable, fetch_fashion_mnist

pytestmark = pytest.mark.filterwarnings("error")

ROOT = Path(__file__).parent.parent
NAMES = tuple(four_files.FILES)
FULL_SIZE = dict(four_files.FILES)
fixture_reuse = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)


def one_line(error: pytest.ExceptionInfo[ParityError], *parts: str) -> str:
    """The message, which is one line that says expected, received and, after it, what to do."""
    message = str(error.value)
    assert "\n" not in message
    assert "expected" in message
    assert "; received " in message
    assert message.rstrip().count("; ") >= 2
    for part in parts:
        assert part in message, message
    return message


# A small Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    return tmp_path / "cache" / "data"


@pytest.fixture
def files(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The unpacked files of the small data set, which no source has yet."""
    random = np.random.default_rng(0)
    contents = {}
    for name in NAMES:
        examples = 60 if name.startswith("train") else 20
        shape = (examples, 28, 28) if "images" in name else (examples,)
        largest = 256 if "images" in name else 10
        contents[name] = idx(random.integers(0, largest, shape, dtype=np.uint8))
    arrays = [
        np.frombuffer(contents[name], np.uint8, offset=FULL_SIZE[name].header_bytes)
        for name in NAMES
    ]
    stored = DataModule(
        arrays[0].reshape(60, 784), arrays[1], arrays[2].reshape(20, 784), arrays[3]
    )
    monkeypatch.setattr(fetch, "STORED_SHA256", stored.sha256())
    small = {
        name: four_files.File(
            len(content), hashlib.sha256(content).hexdigest(), FULL_SIZE[name].header_bytes
        )
        for name, content in contents.items()
    }
    publish_instead(small, monkeypatch)
    monkeypatch.setattr(fetch, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(publishers, "PUBLISHERS", ())
    monkeypatch.setattr(publishers, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    return contents


def publish_instead(expected: dict[str, four_files.File], monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect these files of every source."""
    for module in (four_files, publishers, package, fetch):
        monkeypatch.setattr(module, "FILES", expected)


def put(folder: Path, files: dict[str, bytes], *, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def check_small(folder: Path, files: dict[str, bytes], source: str | None = None) -> None:
    data = DataModule.open(folder, verify=True)
    for name, array in zip(NAMES, ARRAYS, strict=True):
        stored = getattr(data, array)
        assert isinstance(stored, np.memmap)
        assert stored.dtype == np.uint8
        assert stored.tobytes() == files[name][FULL_SIZE[name].header_bytes :]
    assert (data.num_train, data.num_val, data.num_inputs, data.num_outputs) == (60, 20, 784, 10)
    assert data.image_shape == (28, 28)
    assert data.divisor == 255
    if source is not None:
        assert source in data.source
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


# A publisher on this machine

Answer = Callable[["Handler", str, int], None]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        name = self.path.rsplit("/", 1)[-1].removesuffix(".gz")
        server.asked.append(name)
        server.answer(self, name, server.asked.count(name))

    def log_message(self, *args: Any) -> None: ...

    def send(
        self, body: bytes, status: int = 200, length: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


class Publisher(ThreadingHTTPServer):
    answer: Answer
    asked: list[str]

    def handle_error(self, *args: Any) -> None:
        """A client that hangs up early is what some tests are about."""


@pytest.fixture
def publish() -> Iterator[Callable[..., Publisher]]:
    with contextlib.ExitStack() as stack:

        def start(answer: Answer, certificate: Path | None = None) -> Publisher:
            server = Publisher(("127.0.0.1", 0), Handler)
            server.answer, server.asked = answer, []
            scheme = "http"
            if certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate)
                server.socket = context.wrap_socket(server.socket, server_side=True)
                scheme = "https"
            server.base = f"{scheme}://127.0.0.1:{server.server_port}/data/"
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server

        yield start


def download(*servers: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    monkeypatch.setattr(publishers, "PUBLISHERS", tuple(server.base for server in servers))
    return fetch_fashion_mnist(https_only=False, **options)


def good(files: dict[str, bytes]) -> Answer:
    return lambda handler, name, count: handler.send(gzip.compress(files[name]))


# Sources, in their order


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("subfolder", ["", "fashion-mnist", "FashionMNIST/raw"])
def test_data_dir_layouts(
    files: dict[str, bytes], tmp_path: Path, packed: bool, subfolder: str
) -> None:
    put(tmp_path / "mine" / subfolder, files, packed=packed)
    check_small(fetch_fashion_mnist(tmp_path / "mine"), files, "mine")


def test_data_dir_before_environment_before_cache(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = put(tmp_path / "mine", files)
    check_small(fetch_fashion_mnist(str(mine)), files)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nothing"))
    check_small(fetch_fashion_mnist(mine), files)
    with pytest.raises(ParityError) as error:  # though the cache has a good copy
        fetch_fashion_mnist()
    one_line(error, str(tmp_path / "nothing"), f"unset {DATA_VARIABLE}")
    with pytest.raises(ParityError) as error:
        open_data(None, 256)
    assert not isinstance(error.value, DataUnavailable)
    monkeypatch.setenv(DATA_VARIABLE, "")
    check_small(fetch_fashion_mnist(), files)


def test_data_dir_is_verified_though_cached(files: dict[str, bytes], tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", files)
    fetch_fashion_mnist(mine)
    (mine / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(ParityError) as error:
        fetch_fashion_mnist(mine)
    one_line(error, str(mine / NAMES[3]), "leave out --data-dir")


def test_cache_before_system(files: dict[str, bytes], tmp_path: Path) -> None:
    system = put(fetch.SYSTEM_FOLDER, files)
    check_small(fetch_fashion_mnist(), files, str(system))
    shutil.rmtree(system)
    check_small(fetch_fashion_mnist(), files, str(system))


def test_system_before_download(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(fetch.SYSTEM_FOLDER, files)
    server = publish(good(files))
    check_small(download(server, monkeypatch=monkeypatch), files, "system")
    assert server.asked == []


def test_download_where_system_is_broken(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(fetch.SYSTEM_FOLDER, {**files, NAMES[0]: b"other"})
    check_small(download(publish(good(files)), monkeypatch=monkeypatch), files, "127.0.0.1")


def test_download_reports_progress(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    server = publish(good(files))
    folder = download(
        server, monkeypatch=monkeypatch, progress=lambda what, part: told.append((what, part))
    )
    check_small(folder, files)
    assert server.asked == list(NAMES)
    parts = [part for _, part in told]
    assert parts == sorted(parts)
    assert parts[0] == 0
    assert parts[-1] == pytest.approx(1)
    assert all("127.0.0.1" in what for what, _ in told)


def truncated(handler: Handler, body: bytes) -> None:
    handler.send(body[: len(body) // 2], length=len(body))


def truncated_without_length(handler: Handler, body: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])


TRANSIENT: dict[str, Callable[[Handler, bytes], None]] = {
    "server error": lambda handler, body: handler.send(b"busy", 503),
    "too many requests": lambda handler, body: handler.send(b"", 429),
    "truncated": truncated,
    "truncated, no length": truncated_without_length,
    "empty": lambda handler, body: handler.send(b"", length=len(body)),
    "hangs up": lambda handler, body: None,
    "not HTTP": lambda handler, body: handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") and None,
}


@pytest.mark.parametrize("failure", TRANSIENT)
def test_transient_failures_are_tried_again(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    def answer(handler: Handler, name: str, count: int) -> None:
        body = gzip.compress(files[name])
        TRANSIENT[failure](handler, body) if count < 3 else handler.send(body)

    server = publish(answer)
    check_small(download(server, monkeypatch=monkeypatch), files)
    assert [server.asked.count(name) for name in NAMES] == [3, 3, 3, 3]


def test_second_publisher_completes_the_first(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: Handler, name: str, count: int) -> None:
        if name == NAMES[1]:
            handler.send(b"", 500)
        else:
            handler.send(gzip.compress(files[name]))

    first, second = publish(answer), publish(good(files))
    check_small(download(first, second, monkeypatch=monkeypatch), files, second.base[7:22])
    assert first.asked == [NAMES[0], *[NAMES[1]] * 3]
    assert second.asked == list(NAMES[1:])


def long_gzip(content: bytes) -> bytes:
    return gzip.compress(content + bytes(50_000_000), compresslevel=1)


PERMANENT: dict[str, tuple[Callable[[Handler, bytes], None], str]] = {
    "not found": (lambda handler, content: handler.send(b"", 404), "HTTP 404"),
    "other content": (
        lambda handler, content: handler.send(gzip.compress(content[:-1] + b"\xff")),
        "SHA-256",
    ),
    "a web page": (lambda handler, content: handler.send(b"<html>Sign in</html>"), "gzip"),
    "too long": (
        lambda handler, content: handler.send(os.urandom(100_000)),
        "received more",
    ),
    "unpacks to too much": (
        lambda handler, content: handler.send(long_gzip(content)),
        "received more",
    ),
    "redirection to a file": (
        lambda handler, content: handler.send(b"", 302, Location="file:///etc/passwd"),
        "HTTP 302",
    ),
    "redirection to itself": (
        lambda handler, content: handler.send(b"", 302, Location=handler.path),
        "HTTP 302",
    ),
    "unusable redirection": (
        lambda handler, content: handler.send(b"", 302, Location="http://127.0.0.1:port/"),
        "nonnumeric port",
    ),
}


@pytest.mark.parametrize("failure", PERMANENT)
def test_permanent_failures_are_not_tried_again(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    answer, told = PERMANENT[failure]
    first = publish(lambda handler, name, count: answer(handler, files[name]))
    # Labels first: their limit is far below what "too long" sends.
    order = dict(four_files.FILES)
    publish_instead(dict(reversed(order.items())), monkeypatch)
    with pytest.raises(DataUnavailable) as error:
        download(first, monkeypatch=monkeypatch)
    one_line(error, told, first.base[7:22])
    if "itself" not in failure:
        assert first.asked == [NAMES[3]]
    publish_instead(order, monkeypatch)
    check_small(download(first, publish(good(files)), monkeypatch=monkeypatch), files)


def test_an_endless_answer_ends(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    def answer(handler: Handler, name: str, count: int) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while sent < 200_000_000:
            handler.wfile.write(bytes(1 << 16))
            sent += 1 << 16

    server = publish(answer)
    with pytest.raises(DataUnavailable) as error:
        download(server, monkeypatch=monkeypatch)
    one_line(error, "received more")
    assert sent < 100_000_000  # what the system's buffers took
    assert len(server.asked) == 1


def test_slow_and_silent_answers_end(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung_up = threading.Event()

    def drip(handler: Handler, name: str, count: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in itertools.takewhile(lambda _: not hung_up.wait(0.02), range(1000)):
            handler.wfile.write(b"\x1f")

    monkeypatch.setattr(publishers, "DOWNLOAD_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(DataUnavailable) as error:
        download(publish(drip), monkeypatch=monkeypatch)
    one_line(error, "in time")
    assert 0.4 < time.monotonic() - start < 3
    hung_up.set()

    over = threading.Event()
    monkeypatch.setattr(publishers, "DOWNLOAD_SECONDS", 60)
    monkeypatch.setattr(publishers, "STALL_SECONDS", 0.1)
    server = publish(lambda handler, name, count: over.wait(10) and None)
    start = time.monotonic()
    with pytest.raises(DataUnavailable) as error:
        download(server, monkeypatch=monkeypatch)
    over.set()
    one_line(error, "timed out")
    assert len(server.asked) == 3
    assert time.monotonic() - start < 3


def test_a_slow_publisher_leaves_time_for_the_next(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(publishers, "DOWNLOAD_SECONDS", 1.0)
    slow = publish(lambda handler, name, count: over.wait(10) and None)
    check_small(download(slow, publish(good(files)), monkeypatch=monkeypatch), files)
    over.set()


def test_unknown_host_is_asked_once(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def unknown(host: str, *args: Any, **options: Any) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for scheme in ("http", "https"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(publishers, "PUBLISHERS", ("https://a.invalid/", "https://b.invalid/"))
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    one_line(error, "a.invalid", "b.invalid", "name resolution")
    assert asked == ["a.invalid", "b.invalid"]


def test_plain_http_is_refused(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = publish(good(files))
    monkeypatch.setattr(publishers, "PUBLISHERS", (server.base,))
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    one_line(error, "expected HTTPS", server.base)
    assert server.asked == []


def test_publishers_are_https() -> None:
    assert len(publishers.PUBLISHERS) == 2
    assert all(base.startswith("https://") and base.endswith("/") for base in publishers.PUBLISHERS)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, its key and the authority that signed it, of this test alone."""
    authority = trustme.CA()
    both = tmp_path_factory.mktemp("certificate") / "both.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(both)
    authority.cert_pem.write_to_path(both, append=True)
    return both


def test_https_only_even_after_a_redirection(
    certificate: Path, files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = publish(good(files))

    def redirect(handler: Handler, name: str, count: int) -> None:
        handler.send(b"", 302, Location=f"{plain.base}{name}.gz")

    redirecting = publish(redirect, certificate)
    final = publish(good(files), certificate)
    onward = publish(
        lambda handler, name, count: handler.send(b"", 302, Location=f"{final.base}{name}.gz"),
        certificate,
    )

    monkeypatch.setattr(publishers, "PUBLISHERS", (final.base,))
    with pytest.raises(DataUnavailable) as error:  # nobody vouches for the certificate yet
        fetch_fashion_mnist()
    one_line(error, "CERTIFICATE_VERIFY_FAILED")

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr(publishers, "PUBLISHERS", (redirecting.base,))
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    one_line(error, "expected HTTPS", plain.base)
    assert plain.asked == []
    assert redirecting.asked == [NAMES[0]]

    monkeypatch.setattr(publishers, "PUBLISHERS", (redirecting.base, onward.base))
    check_small(fetch_fashion_mnist(), files, onward.base[8:23])
    assert final.asked == list(NAMES)


# Nothing to be had


def test_unavailable_names_every_source(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(fetch.SYSTEM_FOLDER, {**files, NAMES[2]: files[NAMES[2]][:-1]})
    server = publish(lambda handler, name, count: handler.send(b"", 404))
    with pytest.raises(DataUnavailable) as error:
        download(server, monkeypatch=monkeypatch)
    one_line(
        error,
        "(1) the cache",
        f"(2) {fetch.SYSTEM_FOLDER}",
        NAMES[2],
        "(3) 127.0.0.1",
        "(4) the package dataset-fashion-mnist",
        "apt-get",
        "--data-dir",
    )


def test_control_characters_of_a_server_do_not_reach_the_terminal(
    files: dict[str, bytes], publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: Handler, name: str, count: int) -> None:
        handler.wfile.write(b"HTTP/1.0 404 \x1b[2Jgone\x07\r\n\r\n")

    with pytest.raises(DataUnavailable) as error:
        download(publish(answer), monkeypatch=monkeypatch)
    assert one_line(error, "404", "gone").isprintable()


def test_digits_stand_in_only_if_nothing_was_named(files: dict[str, bytes], cache: Path) -> None:
    folder, data, notice = open_data(None, 100)
    assert data.name == "digits"
    assert folder.parent == cache
    assert notice
    assert "digits" in notice
    assert "fashion-mnist" in notice
    assert "apt-get" in notice
    assert notice.isprintable()
    assert notice.endswith(".")
    with pytest.raises(DataUnavailable) as error:
        open_data("fashion-mnist", 100)
    one_line(error)


@pytest.mark.parametrize("name", [None, "fashion-mnist"])
def test_fashion_mnist_by_default(
    files: dict[str, bytes], tmp_path: Path, name: str | None
) -> None:
    mine = put(tmp_path / "mine", files)
    folder, data, notice = open_data(name, 17, mine)
    check_small(folder, files)
    assert (data.name, data.batch_size, notice) == ("fashion-mnist", 17, None)


def test_digits_without_scikit_learn(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ParityError) as error:
        open_data("digits", 10)
    one_line(error, "install scikit-learn")
    with pytest.raises(ParityError) as error:
        open_data(None, 10)
    one_line(error, "install scikit-learn", "apt-get")


# Unusable files

CONTENT = {
    "truncated": (lambda content: (lambda z: z[: len(z) // 2])(gzip.compress(content)), "cut off"),
    "truncated, plain": (lambda content: content[:-1], "bytes, unpacked; received "),
    "empty": (lambda content: b"", "received 0"),
    "corrupt": (
        lambda content: (lambda z: z[:40] + bytes(20) + z[60:])(gzip.compress(content)),
        "; received ",
    ),
    "wrong check sum of gzip": (
        lambda content: (lambda z: z[:-8] + bytes(4) + z[-4:])(gzip.compress(content)),
        "CRC",
    ),
    "not gzip": (lambda content: b"<html>" * 100, "gzip file; received "),
    "garbage behind it": (
        lambda content: gzip.compress(content) + b"garbage",
        "gzip file; received ",
    ),
    "other content": (lambda content: gzip.compress(content[:-1] + b"\xff"), "SHA-256"),
    "other content, plain": (lambda content: content[:-1] + b"\xff", "SHA-256"),
    "too long": (lambda content: gzip.compress(content + b"\x00"), "received more"),
    "too long, plain": (lambda content: content + b"\x00", "received more"),
}


@pytest.mark.parametrize("fault", CONTENT)
@pytest.mark.parametrize("name", NAMES)
def test_unusable_files(files: dict[str, bytes], tmp_path: Path, name: str, fault: str) -> None:
    make, told = CONTENT[fault]
    mine = put(tmp_path / "mine", files)
    path = mine / f"{name}.gz"
    broken = make(files[name])
    if "plain" in fault:
        path.unlink()
        path = path.with_suffix("")
    path.write_bytes(broken)
    with pytest.raises(ParityError) as error:
        open_data(None, 256, mine)
    message = one_line(error, str(path), told)
    assert not isinstance(error.value, DataUnavailable)
    if "SHA-256" in told:
        content = broken if "plain" in fault else gzip.decompress(broken)
        assert four_files.FILES[name].sha256 in message
        assert hashlib.sha256(content).hexdigest() in message


@pytest.mark.parametrize("name", NAMES)
def test_missing_files(files: dict[str, bytes], tmp_path: Path, name: str) -> None:
    mine = put(tmp_path / "mine", files)
    (mine / f"{name}.gz").unlink()
    (mine / f"{name}.gz").mkdir()
    with pytest.raises(ParityError) as error:
        fetch_fashion_mnist(mine)
    one_line(error, str(mine / name), "received nothing")
    with pytest.raises(ParityError) as error:
        fetch_fashion_mnist(tmp_path / "elsewhere")
    one_line(error, str(tmp_path / "elsewhere"), name)


# The cache


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(path: Path, **facts: Any) -> None:
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, **facts}))


def forge(folder: Path) -> None:
    """Other content, whose digest the facts state."""
    held = DataModule.open(folder)
    arrays = [np.array(getattr(held, name)) for name in ARRAYS]
    arrays[0][0, 0] ^= 1
    held.X_train = arrays[0]
    sha256 = held.sha256()
    np.save(folder / "X_train.npy", arrays[0])
    edit(folder / "facts.json", sha256=sha256)
    DataModule.open(folder, verify=True)


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def archive_in_place(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, y=np.arange(20))


BROKEN: dict[str, Callable[[Path], Any]] = {
    "a bit": lambda folder: flip(folder / "X_train.npy"),
    "a label": lambda folder: flip(folder / "y_val.npy"),
    "truncated": lambda folder: os.truncate(folder / "X_train.npy", 5000),
    "empty": lambda folder: os.truncate(folder / "y_train.npy", 0),
    "missing": lambda folder: (folder / "X_val.npy").unlink(),
    "no facts": lambda folder: (folder / "facts.json").unlink(),
    "half the facts": lambda folder: os.truncate(folder / "facts.json", 50),
    "facts of another kind": lambda folder: (folder / "facts.json").write_text("[]"),
    "facts without digest": lambda folder: (folder / "facts.json").write_text("{}"),
    "unknown facts": lambda folder: edit(folder / "facts.json", colour="red"),
    "digest": lambda folder: edit(folder / "facts.json", sha256="0" * 64),
    "divisor": lambda folder: edit(folder / "facts.json", divisor=1.0),
    "divisor's type": lambda folder: edit(folder / "facts.json", divisor=[1]),
    "labels": lambda folder: edit(folder / "facts.json", labels=list("abcdefghij")),
    "labels' type": lambda folder: edit(folder / "facts.json", labels=3),
    "classes": lambda folder: edit(folder / "facts.json", num_outputs=11),
    "shape": lambda folder: edit(folder / "facts.json", image_shape=[14, 56]),
    "an archive": lambda folder: archive_in_place(folder / "y_val.npy"),
    "forged": forge,
    "a file": replace_by_file,
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_cache_is_made_again(files: dict[str, bytes], fault: str) -> None:
    system = put(fetch.SYSTEM_FOLDER, files)
    folder = fetch_fashion_mnist()
    BROKEN[fault](folder)
    check_small(fetch_fashion_mnist(), files)

    BROKEN[fault](folder)
    shutil.rmtree(system)
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    assert "the cache: nothing there" not in one_line(error)


def test_readers_keep_what_they_mapped(files: dict[str, bytes], tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", files)
    folder = fetch_fashion_mnist(mine)
    mapped = DataModule.open(folder)
    before = mapped.sha256()
    (folder / "facts.json").write_text("{}")
    fetch_fashion_mnist(mine)
    assert mapped.sha256() == before


def test_a_good_copy_is_left_alone(files: dict[str, bytes], tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", files)
    folders = [open_data(name, 8)[0] for name in ("digits", "synthetic:20x3x2")]
    folders.append(fetch_fashion_mnist(mine))
    before = [path.stat().st_ino for folder in folders for path in sorted(folder.iterdir())]
    again = [open_data(name, 8)[0] for name in ("digits", "synthetic:20x3x2")]
    again.append(fetch_fashion_mnist(mine))
    assert again == folders
    assert [p.stat().st_ino for folder in again for p in sorted(folder.iterdir())] == before


PROCESSES = 4


def _fetch_together(barrier: Any, results: Any, rounds: int) -> None:
    for _ in range(rounds):
        barrier.wait(30)
        try:
            folder = fetch_fashion_mnist()
            results.put(DataModule.open(folder, verify=True).sha256())
        except BaseException as error:
            results.put(repr(error))
        if barrier.wait(30) == 0:
            # an empty place, then a broken copy, in turns
            (folder / "facts.json").write_text("{}") if _ % 2 else shutil.rmtree(folder)


def test_processes_that_fetch_at_once(files: dict[str, bytes], cache: Path) -> None:
    put(fetch.SYSTEM_FOLDER, files)
    rounds = 6
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=_fetch_together, args=(barrier, results, rounds))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    received = [results.get(timeout=30) for _ in range(PROCESSES * rounds)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert set(received) == {fetch.STORED_SHA256}
    assert {path.name for path in cache.iterdir()} <= {"fashion-mnist"}


def test_another_process_was_faster(
    files: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(fetch.SYSTEM_FOLDER, files)
    replace, faster = os.replace, []

    def late(source: Path, target: Path) -> None:
        if not faster:
            faster.append(shutil.copytree(source, target).stat().st_ino)
        replace(source, target)

    monkeypatch.setattr(data_module.os, "replace", late)
    folder = fetch_fashion_mnist()
    check_small(folder, files)
    assert faster == [folder.stat().st_ino]


@pytest.mark.parametrize("name", ["digits", "synthetic", "fashion-mnist"])
def test_unusable_cache(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    put(fetch.SYSTEM_FOLDER, files)
    (tmp_path / "file").write_text("not a folder")  # holds for root too, unlike permissions
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(ParityError) as error:
        open_data(name, 8)
    one_line(error, str(tmp_path / "file"), CACHE_VARIABLE)


def test_full_disk(cache: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from framework_parity.common.core.errors import ParityError\n"
        "from framework_parity.common.data.named import open_data\n"
        "try: open_data('synthetic:1000x20x3', 8)\n"
        "except ParityError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    assert "expected room and permission" in done.stdout
    assert CACHE_VARIABLE in done.stdout
    assert list(cache.iterdir()) == []


def test_full_disk_leaves_no_half(
    files: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(fetch.SYSTEM_FOLDER, files)
    save = np.save

    def full(path: Path, array: Any, **options: Any) -> None:
        if "y_val" in str(path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(path, array, **options)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ParityError) as error:
        open_data(None, 8)
    one_line(error, "No space left on device")
    assert list(cache.iterdir()) == []


# Other data sets


def test_digits(cache: Path) -> None:
    folder, data, notice = open_data("digits", 100)
    assert notice is None
    assert folder.parent == cache
    assert folder.name.startswith("digits-")
    assert (data.num_train, data.num_val, data.num_inputs, data.num_outputs) == (1437, 360, 64, 10)
    assert data.facts() == Digits().facts()
    assert isinstance(data.X_train, np.memmap)
    X, _ = data.examples(train=True)
    assert (X.min(), X.max()) == (0, 1)


@given(sizes=st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 40)))
@fixture_reuse
def test_synthetic_of_any_size(cache: Path, sizes: tuple[int, int, int]) -> None:
    name = "synthetic:{}x{}x{}".format(*sizes)
    folder, data, notice = open_data(name, 7)
    assert notice is None
    assert (data.num_train, data.num_inputs, data.num_outputs) == sizes
    assert data.name == name
    assert folder.name.startswith("synthetic-")
    assert open_data(name, 7)[0] == folder
    assert DataModule.open(folder, verify=True).facts() == data.facts()


def test_synthetic_default(cache: Path) -> None:
    assert open_data("synthetic", 7)[1].facts() == Synthetic().facts()


@pytest.mark.parametrize(
    "name", ["synthetic:0x3x2", "synthetic:5x0x2", "synthetic:5x3x0", f"synthetic:{'9' * 5000}x1x1"]
)
def test_synthetic_of_no_size(cache: Path, name: str) -> None:
    with pytest.raises(ParityError) as error:
        open_data(name, 8)
    one_line(error, "synthetic")


@pytest.mark.parametrize(
    "name", ["", "mnist", "Digits", "synthetic:", "synthetic:3x4", "synthetic:-1x2x3", "a.npy"]
)
def test_unknown_names(cache: Path, name: str) -> None:
    with pytest.raises(ParityError) as error:
        open_data(name, 8)
    one_line(error, repr(name), "fashion-mnist", "digits", "synthetic:", ".npz")


@pytest.mark.parametrize("name", ["digits", "synthetic", "synthetic:5x3x2", "a.npz"])
def test_data_dir_is_for_fashion_mnist(cache: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ParityError) as error:
        open_data(name, 8, tmp_path)
    one_line(error, name, "--data-dir")


# A user's .npz


def examples(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        "X_train": random.standard_normal((12, 4)).astype(np.float32),
        "y_train": np.arange(12) % 3,
        "X_val": random.standard_normal((5, 4)).astype(np.float32),
        "y_val": np.arange(5) % 3,
    }
    return {name: value for name, value in {**arrays, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("X", "divisor", "image_shape"),
    [
        (np.arange(48, dtype=np.uint8).reshape(12, 4), 255, None),
        (np.arange(48, dtype=np.uint8).reshape(12, 2, 2), 255, (2, 2)),
        (np.asfortranarray(np.arange(48.0).reshape(12, 4)), 1, None),
        (np.arange(48, dtype=">i8").reshape(12, 2, 2, 1), 1, None),
        (np.arange(48, dtype=np.float16).reshape(12, 4), 1, None),
    ],
)
def test_npz(
    cache: Path,
    tmp_path: Path,
    X: np.ndarray,
    divisor: float,
    image_shape: tuple[int, int] | None,
) -> None:
    path = tmp_path / "my data: ünï.npz"
    np.savez_compressed(path, **examples(X_train=X, X_val=X[:5]))
    folder, data, notice = open_data(str(path), 5)
    assert notice is None
    assert folder.parent == cache
    assert (data.num_train, data.num_val, data.num_inputs, data.num_outputs) == (12, 5, 4, 3)
    assert (data.divisor, data.image_shape) == (divisor, image_shape)
    assert data.X_train.flags.c_contiguous
    features, labels = data.examples(train=True)
    assert (features.dtype, labels.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(features, X.reshape(12, 4).astype(np.float32) / divisor)
    np.savez_compressed(path, **examples())
    assert open_data(str(path), 5)[0] != folder


class Trap:
    """Pickled, it makes a file as soon as it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def bad(name: str, index: Any, value: Any, **dtypes: Any) -> dict[str, Any]:
    arrays = examples()
    array = arrays[name].astype(dtypes.get("dtype", arrays[name].dtype))
    array[index] = value
    return examples(**{name: array})


BAD_NPZ: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    **{
        f"no {name}": (lambda name=name: examples(**{name: None}), f"add {name}") for name in ARRAYS
    },
    "nothing": (lambda: {"W": np.ones(3)}, "received W"),
    "unequal lengths": (lambda: examples(y_train=np.arange(11) % 3), "12 and 11"),
    "unequal lengths, val": (lambda: examples(y_val=np.arange(6) % 3), "5 and 6"),
    "unequal features": (lambda: examples(X_val=np.ones((5, 3), np.float32)), "X_val"),
    "unequal image shapes": (
        lambda: examples(X_train=np.ones((12, 2, 3)), X_val=np.ones((5, 3, 2))),
        "(2, 3)",
    ),
    "pixels and floats": (lambda: examples(X_train=np.ones((12, 4), np.uint8)), "uint8"),
    "negative label": (lambda: bad("y_train", 3, -1), "received -1"),
    "stray label": (lambda: bad("y_train", 3, 100), "received 100"),
    "huge label": (lambda: bad("y_train", 3, 2**64 - 1, dtype=np.uint64), str(2**64 - 1)),
    "class only in val": (lambda: bad("y_val", 3, 3), "y_train holds"),
    "float labels": (lambda: examples(y_train=np.zeros(12)), "float64"),
    "bool labels": (lambda: examples(y_val=np.zeros(5, bool)), "bool"),
    "text labels": (lambda: examples(y_val=np.array(list("abcde"))), "integer label"),
    "one-hot labels": (lambda: examples(y_train=np.eye(12, dtype=int)), "(12, 12)"),
    "NaN": (lambda: bad("X_train", (0, 0), np.nan), "1 that are not finite"),
    "infinity": (lambda: bad("X_val", (slice(2), 1), -np.inf), "2 that are not finite"),
    "float32 overflow": (lambda: bad("X_val", (0, 0), 1e300, dtype=np.float64), "overflow"),
    "complex": (lambda: examples(X_train=np.ones((12, 4), complex)), "complex128"),
    "text": (lambda: examples(X_train=np.full((12, 4), "a")), "X_train"),
    "dates": (lambda: examples(X_train=np.zeros((12, 4), "M8[s]")), "X_train"),
    "one axis": (lambda: examples(X_train=np.ones(12, np.float32)), "(12,)"),
    "a number": (lambda: examples(X_val=np.float32(1)), "()"),
    "no examples": (
        lambda: examples(X_val=np.ones((0, 4), np.float32), y_val=np.ones(0, int)),
        "(0, 4)",
    ),
    "no features": (
        lambda: examples(X_train=np.ones((12, 0)), X_val=np.ones((5, 0))),
        "(12, 0)",
    ),
    "objects": (lambda: examples(X_train=np.full((12, 4), None)), "no objects"),
}


@pytest.mark.parametrize("fault", BAD_NPZ)
def test_unusable_npz(cache: Path, tmp_path: Path, fault: str) -> None:
    make, told = BAD_NPZ[fault]
    path = tmp_path / "data.npz"
    np.savez(path, **make())
    with pytest.raises(ParityError) as error:
        open_data(str(path), 8)
    one_line(error, str(path), told)
    assert not cache.exists()


def test_pickled_objects_are_never_loaded(cache: Path, tmp_path: Path) -> None:
    path, sprung = tmp_path / "data.npz", tmp_path / "sprung"
    for arrays in (
        examples(X_train=np.array([Trap(sprung)], dtype=object)),
        examples(extra=np.array([Trap(sprung)], dtype=object)),
    ):
        np.savez(path, **arrays)
        with contextlib.suppress(ParityError):
            open_data(str(path), 8)
        assert not sprung.exists()
    # the same bytes that np.load would unpickle, where no archive is at all
    with np.load(path, allow_pickle=False) as archive, zipfile.ZipFile(path) as members:
        assert "extra" in archive
        content = members.read("extra.npy")
    path.write_bytes(content[content.index(b"\x80") :])
    with pytest.raises(ParityError) as error:
        open_data(str(path), 8)
    one_line(error, str(path))
    assert not sprung.exists()


def test_files_that_are_no_npz(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with pytest.raises(ParityError) as error:
        open_data(str(path), 8)
    one_line(error, str(path), "nothing there")
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    for content in (b"", b"text", b"PK\x03\x04", stream.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ParityError) as error:
            open_data(str(path), 8)
        one_line(error, str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(ParityError) as error:
        open_data(str(path), 8)
    one_line(error, str(path))


@given(
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), end=st.floats(0, 1)
)
@fixture_reuse
@pytest.mark.filterwarnings("default")  # NumPy warns of some damages before it refuses them
def test_damaged_npz_is_read_whole_or_refused(
    tmp_path: Path, flips: list[tuple[float, int]], end: float
) -> None:
    stream = io.BytesIO()
    np.savez(stream, **examples())
    content = bytearray(stream.getvalue())
    for where, value in flips:
        content[int(where * (len(content) - 1))] = value
    path = tmp_path / "data.npz"
    path.write_bytes(content[: int((1 - end / 4) * len(content))])
    with contextlib.suppress(ParityError):
        data = load_npz(path)
        assert np.isfinite(data.examples(train=True)[0]).all()


# Examples, batches, storage


@st.composite
def modules(draw: st.DrawFn) -> DataModule:
    num_train, num_val = draw(st.integers(1, 20)), draw(st.integers(1, 9))
    image_shape = draw(st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)))
    num_inputs = image_shape[0] * image_shape[1] if image_shape else draw(st.integers(1, 9))
    num_outputs = draw(st.integers(1, 12))
    dtype = draw(st.sampled_from([np.uint8, np.float32, np.float64, np.int32]))
    elements = {"allow_nan": False, "allow_infinity": False} if np.dtype(dtype).kind == "f" else {}
    label_dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64]))

    def features(n: int) -> Any:
        return draw(
            hnp.arrays(dtype, (n, num_inputs), elements=hnp.from_dtype(np.dtype(dtype), **elements))
        )

    def labels(n: int) -> Any:
        return draw(hnp.arrays(label_dtype, n, elements=st.integers(0, num_outputs - 1)))

    names = st.lists(st.text(max_size=5), min_size=num_outputs, max_size=num_outputs)
    return DataModule(
        features(num_train),
        labels(num_train),
        features(num_val),
        labels(num_val),
        batch_size=draw(st.integers(1, 25)),
        name=draw(st.text(max_size=10)),
        divisor=draw(st.sampled_from([1.0, 16.0, 255.0, 0.3])),
        num_outputs=num_outputs,
        image_shape=image_shape,
        labels=draw(st.none() | names),
        source=draw(st.text(max_size=10)),
    )


@given(data=modules())
@fixture_reuse
def test_saved_and_opened(tmp_path: Path, data: DataModule) -> None:
    folder = tmp_path / "stored"
    data.save(folder)
    opened = DataModule.open(folder, data.batch_size, verify=True)
    assert opened.facts() == data.facts()
    for name in ARRAYS:
        stored, given_ = getattr(opened, name), getattr(data, name)
        assert isinstance(stored, np.memmap)
        assert not stored.flags.writeable
        assert stored.dtype == given_.dtype
        assert stored.tobytes() == given_.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["stored"]


@given(data=modules())
@fixture_reuse
def test_batches(data: DataModule) -> None:
    shape = data.image_shape or (data.num_inputs,)
    for train, n in ((True, data.num_train), (False, data.num_val)):
        loader = data.train_dataloader if train else data.val_dataloader
        with np.errstate(over="ignore"):  # float64 features beyond float32, which Recipe refuses
            batches = list(loader())
            X, y = data.examples(train)
        short = [n % data.batch_size] if n % data.batch_size else []
        sizes = [data.batch_size] * (n // data.batch_size) + short
        assert [X.shape for X, _ in batches] == [(size, *shape) for size in sizes]
        assert [y.shape for _, y in batches] == [(size,) for size in sizes]
        assert {X.dtype for X, _ in batches} == {np.dtype(np.float32)}
        assert {y.dtype for _, y in batches} == {np.dtype(np.int32)}
        rows = np.concatenate([X.reshape(len(X), -1) for X, _ in batches])
        classes = np.concatenate([y for _, y in batches])
        if train:  # every example once, with its label
            got = sorted((x.tobytes(), int(c)) for x, c in zip(rows, classes, strict=True))
            assert got == sorted((x.tobytes(), int(c)) for x, c in zip(X, y, strict=True))
        else:
            assert rows.tobytes() == X.tobytes()
            assert classes.tolist() == y.tolist()
        names = data.text_labels(classes)
        assert names == [(data.labels or [str(i) for i in range(99)])[int(c)] for c in classes]


def test_training_order_changes_and_repeats() -> None:
    def orders() -> list[list[int]]:
        X = np.arange(50, dtype=np.float32).reshape(50, 1)
        data = DataModule(X, np.zeros(50, int), X, np.zeros(50, int), batch_size=50, seed=3)
        return [next(data.train_dataloader())[0].ravel().tolist() for _ in range(2)]

    first, second = orders()
    assert first != second
    assert orders() == [first, second]


@given(
    X=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    divisor=st.sampled_from([255.0, 16.0, 1.0, 3.0]) | st.floats(0.015625, 1e6, width=32),
)
@fixture_reuse
def test_scaling_is_float32_division(X: np.ndarray, divisor: float) -> None:
    y = np.zeros(len(X), int)
    data = DataModule(X, y, X, y, divisor=divisor)
    expected = X.astype(np.float32) / np.float32(divisor)
    assert expected.dtype == np.float32
    scaled, _ = data.examples(train=True)
    assert scaled.dtype == np.float32
    assert scaled.tobytes() == expected.tobytes()
    wide, _ = data.examples(train=False, dtype="float64")
    assert wide.dtype == np.float64
    assert wide.tobytes() == expected.astype(np.float64).tobytes()


def test_all_pixels_scale_like_float32_division() -> None:
    X = np.arange(256, dtype=np.uint8).reshape(1, 256)
    data = DataModule(X, np.zeros(1, int), X, np.zeros(1, int), divisor=255.0)
    by_hand = [np.float32(value) / np.float32(255) for value in range(256)]
    assert data.scale(X).tobytes() == np.array(by_hand, np.float32).tobytes()


def test_labels_beyond_the_named_classes() -> None:
    X, y = np.ones((3, 2), np.float32), np.arange(3)
    with pytest.raises(ParityError) as error:
        DataModule(X, y, X, y, num_outputs=2)
    one_line(error, "from 0 to 1", "received 2")


# Debian's package


def archive(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


PLACE = "./usr/share/datasets/fashion-mnist"


def test_only_the_four_members_are_read(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    evil = [
        (entry("../../evil"), b"evil"),
        (entry(f"{tmp_path}/evil"), b"evil"),
        (entry(f"{PLACE}/../{NAMES[0]}.gz"), b"evil"),
        (entry(f"{PLACE}/{NAMES[0]}.gz", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (entry(f"{PLACE}/{NAMES[1]}.gz", tarfile.LNKTYPE, "../../evil"), b""),
        (entry(f"{PLACE}/{NAMES[2]}.gz", tarfile.FIFOTYPE), b""),
        (entry(f"{PLACE}/{NAMES[3]}.gz", tarfile.DIRTYPE), b""),
    ]
    whole = [(entry(f"{PLACE}/{name}.gz"), gzip.compress(files[name])) for name in NAMES]
    assert package.read_archive(archive(evil + whole)) == files
    for members in (evil, whole[1:], evil + whole[1:], [whole[0], *whole[:3]]):
        with pytest.raises(four_files.SourceError, match=r"expected .*; received"):
            package.read_archive(archive(members))
    for content in (b"not an archive", b"", archive(whole)[:1000]):
        with pytest.raises(four_files.SourceError):
            package.read_archive(content)
    wrong = gzip.compress(files[NAMES[1]])
    with pytest.raises(four_files.SourceError):
        package.read_archive(archive([(entry(f"{PLACE}/{NAMES[0]}.gz"), wrong), *whole[1:]]))
    assert sorted(tmp_path.rglob("*")) == before


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_apt_that_fails_or_hangs(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    program(programs, "dpkg-deb", "exit 1")
    program(programs, "apt-get", "echo 'W: harmless' >&2; echo 'E: Unable to locate' >&2; exit 100")
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    one_line(error, "apt-get; received exit status 100: E: Unable to locate")

    program(programs, "apt-get", "exit 0")
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    one_line(error, "expected a package from apt-get; received none")

    program(programs, "apt-get", "touch dataset-fashion-mnist_1_all.deb")
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    one_line(error, "dpkg-deb; received exit status 1: nothing")

    # It reads no answers, and its helpers, which hold its outputs open, end with it.
    program(programs, "apt-get", f"cat; sleep 60 & echo $! >> {tmp_path}/helpers; wait")
    monkeypatch.setattr(package, "APT_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(DataUnavailable) as error:
        fetch_fashion_mnist()
    one_line(error, "apt-get in time")
    assert time.monotonic() - start < 5
    time.sleep(0.1)
    for helper in (tmp_path / "helpers").read_text().split():
        status = Path(f"/proc/{helper}/status")
        with contextlib.suppress(OSError):  # gone, or dead and not yet waited for
            assert "State:\tZ" in status.read_text()


@pytest.fixture
def apt(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave apt as the only source of the real data set."""
    if not shutil.which("apt-get"):
        pytest.skip("apt-get is not here: this system is not Debian's kin")
    monkeypatch.setattr(fetch, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(publishers, "PUBLISHERS", ())


def test_real_fashion_mnist_from_apt(apt: None, cache: Path) -> None:
    """Where apt-get exists, it must work: a failure here is not skipped."""
    told: list[float] = []
    folder, data, notice = open_data(
        "fashion-mnist", 256, progress=lambda what, part: told.append(part)
    )
    assert (folder, notice) == (cache / "fashion-mnist", None)
    assert told[0] == 0
    assert told[-1] == 1
    assert (data.num_train, data.num_val, data.num_inputs, data.num_outputs) == (
        60_000,
        10_000,
        784,
        10,
    )
    assert "dataset-fashion-mnist" in data.source
    assert np.bincount(data.y_train).tolist() == [6000] * 10
    assert data.text_labels(data.y_train[:3]) == ["ankle boot", "t-shirt", "t-shirt"]
    assert data.text_labels(range(10))[5:] == ["sandal", "shirt", "sneaker", "bag", "ankle boot"]

    book = FashionMNIST(batch_size=256)  # the cache's
    assert isinstance(book.X_train, np.memmap)
    shapes = [(X.shape, y.shape) for X, y in book.val_dataloader()]
    assert shapes == [((256, 28, 28), (256,))] * 39 + [((16, 28, 28), (16,))]
    X, y = next(book.train_dataloader())
    assert (X.shape, X.dtype, y.shape, y.dtype) == ((256, 28, 28), np.float32, (256,), np.int32)
    assert (X.min(), X.max()) == (0, 1)
    assert sorted(path.name for path in cache.iterdir()) == ["fashion-mnist"]


def test_apt_without_lists(apt: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container's image, whose package lists are deleted: apt gets lists of its own."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "apt.conf").write_text(f'Dir::State::Lists "{tmp_path}/lists";')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    assert set(package.fetch_package()) == set(NAMES)
