"""The publisher's hosts: downloads with limits of size and time, and nothing but HTTPS."""

from __future__ import annotations

import io
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage, InvalidURL
from typing import IO
from urllib.parse import urlsplit

from framework_parity.common.data.fashion_mnist.files import (
    FILES,
    Contents,
    Progress,
    SourceError,
    TransientError,
    unpack,
)

PUBLISHERS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
)

DOWNLOAD_SECONDS = 300.0
"""Limit of the whole download; what is left of it is divided evenly among the hosts left."""

STALL_SECONDS = 10.0
"""A connection that is silent for so long has failed."""

TRIES = 3

BACKOFF_SECONDS = 1.0
"""Wait before the second try; doubled before each further one."""


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
        raise SourceError("", "HTTPS", f"the address {url}")


def download(
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
                    raise reason.inside(f"{name}.gz") from None
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
        raise SourceError("", "an end in time", "none before the time limit")
    try:
        with opener.open(url, timeout=stall) as response:
            length = response.headers.get("Content-Length", "")
            whole = int(length) if length.isdecimal() and len(length) < 12 else 0
            while chunk := response.read1(1 << 16):
                body += chunk
                if len(body) > limit:
                    raise SourceError("", f"at most {limit} bytes", "more")
                if time.monotonic() > deadline:
                    raise SourceError("", "an end in time", f"{len(body)} bytes till then")
                if whole:
                    report(name, min(len(body) / whole, 1.0))
    except urllib.error.HTTPError as error:
        error.close()
        kind = TransientError if error.code >= 500 or error.code in (408, 429) else SourceError
        raise kind("", "the file", f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        # An unknown host; an untrusted certificate, which is a ValueError; an unusable redirection.
        permanent = isinstance(cause, (socket.gaierror, ValueError, InvalidURL))
        kind = SourceError if permanent else TransientError
        raise kind("", "an answer", cause or type(cause).__name__) from None
    if len(body) < whole:
        raise TransientError("", f"{whole} bytes", len(body))
    return bytes(body)
