"""Downloads against a server on the loopback interface that breaks off, refuses, redirects and changes its mind."""

from __future__ import annotations

import bz2
import email.utils
import gzip
import hashlib
import io
import json
import logging
import lzma
import os
import runpy
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from foley.download import disk, http
from foley.download.archives import Limits, archive_kind, unpack
from foley.download.disk import readable
from foley.download.errors import BadArchive, DownloadError, WrongContent
from foley.download.fetch import below, fetch_source, missing, source_from
from foley.download.http import Patience, download
from foley.download.joined import join
from foley.download.sources import HubSource, RemoteFile, Source

LIBRARY = Path(http.__file__).parents[2]
QUICK = Patience(attempts=3, first_wait_s=0.01, longest_wait_s=0.02, silence_s=0.5, longest_retry_after_s=5)
RANDOM = np.random.default_rng(0)
BODY = RANDOM.bytes(300_000)


# --- a server ---


@dataclass
class Trouble:
    """What happens to one request instead of a plain answer."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop_after: int | None = None
    silence_s: float = 0.0


@dataclass
class Served:
    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    length: bool = True
    slow_s: float = 0.0  # between blocks
    troubles: list[Trouble] = field(default_factory=list)


class Site:
    """Files by path, and what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[SimpleNamespace] = []
        self.base = ""

    def put(self, path: str, body: bytes, **more: Any) -> Served:
        self.files[path] = Served(body, **more)
        return self.files[path]

    def url(self, path: str) -> str:
        return f"{self.base}{path}"

    def ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        record = SimpleNamespace(method=self.command, path=self.path, headers=dict(self.headers), sent=0)
        self.site.requests.append(record)
        served = self.site.files.get(path)
        if served is None:
            self.send_error(404)
            return
        trouble = served.troubles.pop(0) if served.troubles else Trouble()
        time.sleep(trouble.silence_s)
        if trouble.status is not None:
            self.send_response(trouble.status)
            for name, value in trouble.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, asked = 0, self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if asked and served.ranges and condition in (None, served.etag, served.last_modified):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(served.body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
        else:
            self.send_response(200)
        for name, value in {
            "ETag": served.etag,
            "Last-Modified": served.last_modified,
            **trouble.headers,
        }.items():
            if value is not None:
                self.send_header(name, value)
        if served.length:
            self.send_header("Content-Length", str(len(served.body) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(served.body) if trouble.drop_after is None else start + trouble.drop_after
        for at in range(start, end, 20_000):
            block = served.body[at : min(at + 20_000, end)]
            try:
                self.wfile.write(block)
            except OSError:
                return
            record.sent += len(block)
            time.sleep(served.slow_s)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for variable in ("FOLEY_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        site.base = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def md5(body: bytes) -> str:
    return f"md5:{hashlib.md5(body).hexdigest()}"


def tree(folder: Path) -> dict[str, bytes]:
    """Files below a folder by path, without Foley's own."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".foley/"):
            found[name] = path.read_bytes()
    return found


# --- transfers ---


def test_a_file_arrives_checked(site: Site, tmp_path: Path) -> None:
    site.put("/a/clips.zip", BODY)
    for checksum in (None, sha256(BODY), md5(BODY), md5(BODY).upper().replace("MD5", "md5")):
        target = tmp_path / "fresh" / "clips.zip"
        found = download(site.url("/a/clips.zip"), target, size_bytes=len(BODY), checksum=checksum)
        assert target.read_bytes() == BODY
        assert found.hex("sha256") == hashlib.sha256(BODY).hexdigest()
        assert [path.name for path in target.parent.iterdir()] == ["clips.zip"]
        shutil.rmtree(target.parent)


def test_a_broken_connection_goes_on_where_it_broke(site: Site, tmp_path: Path) -> None:
    served = site.put("/clips.zip", BODY)
    served.troubles = [Trouble(drop_after=131_072), Trouble(drop_after=65_536)]
    download(site.url("/clips.zip"), tmp_path / "clips.zip", checksum=md5(BODY), patience=QUICK)
    assert (tmp_path / "clips.zip").read_bytes() == BODY
    assert site.ranges() == [None, "bytes=131072-", "bytes=196608-"]
    assert site.requests[1].headers["If-Range"] == '"v1"'
    assert [request.sent for request in site.requests] == [131_072, 65_536, len(BODY) - 196_608]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(site: Site, tmp_path: Path) -> None:
    served = site.put("/clips.zip", BODY, etag=None, last_modified="Wed, 21 Oct 2015 07:28:00 GMT")
    served.troubles = [Trouble(drop_after=131_072), Trouble(status=503), Trouble(status=503)]
    target = tmp_path / "clips.zip"
    with pytest.raises(
        DownloadError, match=r"clips\.zip could not be fetched: the server answered 503.*put it at"
    ):
        download(site.url("/clips.zip"), target, size_bytes=len(BODY), patience=QUICK)
    assert (tmp_path / "clips.zip.part").stat().st_size == 131_072 and not target.exists()
    download(site.url("/clips.zip"), target, size_bytes=len(BODY), patience=QUICK)
    assert target.read_bytes() == BODY
    assert site.requests[-1].sent == len(BODY) - 131_072
    assert site.requests[-1].headers["If-Range"] == "Wed, 21 Oct 2015 07:28:00 GMT"


def half_done(site: Site, path: str, target: Path, **more: Any) -> Served:
    """Leave the first 131,072 bytes of a file as an unfinished transfer."""
    served = site.put(path, BODY, **more)
    served.troubles = [Trouble(drop_after=131_072), Trouble(status=500), Trouble(status=500)]
    with pytest.raises(DownloadError):
        download(site.url(path), target, patience=QUICK)
    assert target.with_name(f"{target.name}.part").stat().st_size == 131_072
    site.requests.clear()
    return served


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "clips.zip"
    served = half_done(site, "/clips.zip", target)
    served.body, served.etag = BODY[::-1], '"v2"'
    download(site.url("/clips.zip"), target, patience=QUICK)
    assert target.read_bytes() == BODY[::-1]
    assert site.ranges() == ["bytes=131072-"] and site.requests[0].sent == len(BODY)


def test_a_server_without_ranges_sends_all_again(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "clips.zip"
    half_done(site, "/clips.zip", target, ranges=False)
    download(site.url("/clips.zip"), target, checksum=sha256(BODY), patience=QUICK)
    assert target.read_bytes() == BODY and site.requests[0].sent == len(BODY)


@pytest.mark.parametrize("checksum", [None, md5(BODY)])
def test_without_a_version_only_a_checksum_allows_to_go_on(
    site: Site, tmp_path: Path, checksum: str | None
) -> None:
    target = tmp_path / "clips.zip"
    # A weak ETag does not promise equal bytes.
    half_done(site, "/clips.zip", target, etag='W/"v1"')
    download(site.url("/clips.zip"), target, checksum=checksum, patience=QUICK)
    assert target.read_bytes() == BODY
    assert site.ranges() == ([None] if checksum is None else ["bytes=131072-"])


def test_another_url_starts_anew(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "clips.zip"
    half_done(site, "/clips.zip", target)
    site.put("/mirror/clips.zip", BODY)
    download(site.url("/mirror/clips.zip"), target, patience=QUICK)
    assert site.ranges() == [None]


def test_a_part_that_is_too_long_is_dropped(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "clips.zip"
    served = half_done(site, "/clips.zip", target)
    served.body = BODY[:50_000]  # the same version by its tag, but shorter: 416
    download(site.url("/clips.zip"), target, patience=QUICK)
    assert target.read_bytes() == BODY[:50_000]
    assert site.ranges() == ["bytes=131072-", None]


def test_a_whole_part_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "clips.zip"
    half_done(site, "/clips.zip", target)
    (tmp_path / "clips.zip.part").write_bytes(BODY)  # killed right before it was renamed
    download(site.url("/clips.zip"), target, size_bytes=len(BODY), checksum=md5(BODY), patience=QUICK)
    assert target.read_bytes() == BODY and site.requests == []


def test_a_file_of_unknown_length_arrives(site: Site, tmp_path: Path) -> None:
    site.put("/master.zip", BODY, length=False)
    found = download(site.url("/master.zip"), tmp_path / "master.zip")
    assert found.count == len(BODY) and (tmp_path / "master.zip").read_bytes() == BODY


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(
    site: Site, tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    site.put("/clips.zip", BODY).troubles = [Trouble(status=status), Trouble(status=status)]
    with caplog.at_level(logging.INFO, "foley"):
        download(site.url("/clips.zip"), tmp_path / "clips.zip", patience=QUICK)
    waits = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(waits) == 2 and all(f"answered {status}" in line for line in waits)
    assert any("300.0 kB in" in r.getMessage() and "/s)" in r.getMessage() for r in caplog.records)


def test_pauses_double(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(http.time, "sleep", pauses.append)
    site.put("/clips.zip", BODY).troubles = [Trouble(status=503) for _ in range(5)]
    download(site.url("/clips.zip"), tmp_path / "clips.zip", patience=Patience(longest_wait_s=5))
    assert [pause for pause in pauses if pause >= 1] == [1, 2, 4, 5, 5]


def test_retry_after_is_honoured(site: Site, tmp_path: Path) -> None:
    served = site.put("/clips.zip", BODY)
    served.troubles = [Trouble(status=429, headers={"Retry-After": "1"})]
    start = time.monotonic()
    download(site.url("/clips.zip"), tmp_path / "clips.zip", patience=QUICK)
    assert time.monotonic() - start >= 1.0
    in_an_hour = email.utils.formatdate(time.time() + 3600, usegmt=True)
    for value in ("7", in_an_hour):
        served.troubles = [Trouble(status=429, headers={"Retry-After": value})]
        with pytest.raises(DownloadError, match=r"answered 429 .*asks to wait for (7|3\d{3}) s"):
            download(site.url("/clips.zip"), tmp_path / "other.zip", patience=QUICK)


def test_silence_is_a_failure_that_may_pass(site: Site, tmp_path: Path) -> None:
    patience = Patience(attempts=3, first_wait_s=0.01, silence_s=0.1)
    site.put("/clips.zip", BODY).troubles = [Trouble(silence_s=0.3)]
    download(site.url("/clips.zip"), tmp_path / "clips.zip", patience=patience)
    site.files["/clips.zip"].troubles = [Trouble(silence_s=0.3) for _ in range(3)]
    with pytest.raises(DownloadError, match="did not answer in time"):
        download(site.url("/clips.zip"), tmp_path / "other.zip", patience=patience)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_ends_at_once_and_says_what_to_do(site: Site, tmp_path: Path, status: int) -> None:
    site.put("/clips.zip", BODY).troubles = [Trouble(status=status)] * 3
    target = tmp_path / "clips.zip"
    with pytest.raises(DownloadError) as error:
        download(site.url("/clips.zip?token=hush"), target, size_bytes=len(BODY), patience=QUICK)
    message = str(error.value)
    assert f"the server answered {status}" in message and f"put it at {target}" in message
    assert f"download {site.url('/clips.zip')} (300.0 kB) by hand" in message
    assert ("~/.netrc" in message) == (status in (401, 403))
    assert len(site.requests) == 1 and list(tmp_path.iterdir()) == []


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError, match=r"clips\.zip could not be fetched: .*Connection refused"):
        download("http://127.0.0.1:9/clips.zip", tmp_path / "clips.zip", patience=QUICK)


def test_redirects_are_followed_but_not_out_of_the_web(site: Site, tmp_path: Path) -> None:
    site.put("/clips.zip", BODY)
    site.put("/go", b"").troubles = [Trouble(302, {"Location": "/clips.zip?signature=hush"})]
    download(site.url("/go"), tmp_path / "clips.zip", checksum=md5(BODY), patience=QUICK)
    site.put("/round", b"").troubles = [Trouble(302, {"Location": "/round"}) for _ in range(50)]
    with pytest.raises(DownloadError, match="redirects in circles"):
        download(site.url("/round"), tmp_path / "round.zip", patience=QUICK)
    secret = tmp_path / "secret"
    secret.write_bytes(BODY)
    site.put("/out", b"").troubles = [Trouble(302, {"Location": secret.as_uri()})]
    with pytest.raises(DownloadError, match="redirects to, is not understood"):
        download(site.url("/out"), tmp_path / "out.zip", patience=QUICK)


def test_file_urls_and_no_others(tmp_path: Path) -> None:
    source = tmp_path / "a b.zip"
    source.write_bytes(BODY)
    download(source.as_uri(), tmp_path / "copy.zip", size_bytes=len(BODY), checksum=md5(BODY))
    assert (tmp_path / "copy.zip").read_bytes() == BODY
    with pytest.raises(DownloadError, match=r"gone\.zip: No such file"):
        download((tmp_path / "gone.zip").as_uri(), tmp_path / "copy2.zip")
    with pytest.raises(DownloadError, match=r"ftp://host/x\.zip: only http"):
        download("ftp://user:hush@host/x.zip", tmp_path / "x.zip")
    with pytest.raises(DownloadError, match=r"'sha1:00' is neither"):
        download(source.as_uri(), tmp_path / "x.zip", checksum="sha1:00")


def test_a_wrong_checksum_names_both_and_keeps_nothing_in_place(site: Site, tmp_path: Path) -> None:
    site.put("/clips.zip", BODY)
    target = tmp_path / "clips.zip"
    with pytest.raises(WrongContent) as error:
        download(site.url("/clips.zip"), target, size_bytes=len(BODY), checksum=md5(b"other"))
    assert md5(BODY)[4:] in str(error.value) and md5(b"other")[4:] in str(error.value)
    assert f"set aside as {target}.bad" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["clips.zip.bad"]


def test_a_wrong_size_is_seen_before_anything_is_fetched(site: Site, tmp_path: Path) -> None:
    page = b"<html>log in</html>"
    site.put("/clips.zip", page).troubles = [Trouble(headers={"Content-Type": "text/html"})]
    with pytest.raises(WrongContent, match=r"offers 19 bytes \(text/html\), expected 300,000"):
        download(site.url("/clips.zip"), tmp_path / "clips.zip", size_bytes=len(BODY), patience=QUICK)
    assert list(tmp_path.iterdir()) == []
    site.put("/long.zip", BODY, length=False)
    with pytest.raises(WrongContent, match="sends more than the 1,000 bytes expected"):
        download(site.url("/long.zip"), tmp_path / "long.zip", size_bytes=1000, patience=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("/clips.zip", BODY)
    usage = SimpleNamespace(total=10**9, used=10**9 - 1000, free=1000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"needs 300\.0 kB on the disk of .* 1\.0 kB free"):
        download(site.url("/clips.zip"), tmp_path / "clips.zip", patience=QUICK)


def test_progress_is_logged_where_there_is_no_terminal(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk, "_LINE_EVERY_S", 0.0)
    site.put("/clips.zip", BODY)
    with caplog.at_level(logging.INFO, "foley"):
        download(site.url("/clips.zip"), tmp_path / "clips.zip", size_bytes=len(BODY))
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("clips.zip: 131.1 kB of 300.0 kB (44%), ") for line in lines), lines


# --- archives ---

MEMBERS = {
    "set/audio/dog.wav": RANDOM.bytes(70_000),
    "set/audio/cat.wav": b"\0" * 50_000,
    "set/meta/labels.csv": b"file,label\ndog.wav,dog\n",
}
LONG_AGO = 1_000_000_000


def zipped(members: dict[str, bytes] = MEMBERS, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2001, 9, 9, 1, 46, 40)), body, compress_type=method)
    return buffer.getvalue()


def tarred(members: dict[str, bytes] = MEMBERS, extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(body), LONG_AGO, 0o4777
            archive.addfile(info, io.BytesIO(body))
        for info in extra:
            archive.addfile(info)
    return buffer.getvalue()


def tar_member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


PLENTY = Limits(10_000_000)


def unpacked(tmp_path: Path, name: str, body: bytes, **more: Any) -> Path:
    (tmp_path / name).write_bytes(body)
    unpack([tmp_path / name], tmp_path / "out", limits=more.pop("limits", PLENTY), **more)
    return tmp_path / "out"


def refused(tmp_path: Path, name: str, body: bytes, match: str, **more: Any) -> int:
    """Unpacking fails with a message that names the archive, and nothing lies outside of its folder.

    Returns how many bytes lay inside until it failed.
    """
    with pytest.raises(BadArchive, match=match) as error:
        unpacked(tmp_path / "inner", name, body, **more)
    assert name in str(error.value)
    assert {path.name for path in (tmp_path / "inner").iterdir()} <= {name, "out"}
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    written = sum(map(len, tree(tmp_path / "inner/out").values()))
    shutil.rmtree(tmp_path / "inner")
    (tmp_path / "inner").mkdir()
    return written


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    return tmp_path


PACKED: dict[str, Callable[[], bytes]] = {
    "x.zip": zipped,
    "stored.zip": lambda: zipped(method=zipfile.ZIP_STORED),
    "lzma.zip": lambda: zipped(method=zipfile.ZIP_LZMA),
    "x.tar": tarred,
    "x.tar.gz": lambda: gzip.compress(tarred()),
    "x.tgz": lambda: gzip.compress(tarred()),
    "x.tar.bz2": lambda: bz2.compress(tarred()),
    "x.tar.xz": lambda: lzma.compress(tarred()),
}


@pytest.mark.parametrize("name", PACKED)
def test_every_kind_unpacks(tmp_path: Path, name: str) -> None:
    seen: list[int] = []
    out = unpacked(tmp_path, name, PACKED[name](), progress=seen.append)
    assert tree(out) == MEMBERS and sum(seen) == sum(map(len, MEMBERS.values()))
    found = (out / "set/audio/dog.wav").stat()
    assert abs(found.st_mtime - LONG_AGO) <= 26 * 3600  # a zip's times are local ones
    assert not found.st_mode & (stat.S_ISUID | stat.S_IXUSR | stat.S_IWOTH)


def test_leading_folders_are_stripped_and_litter_left_out(tmp_path: Path) -> None:
    litter = {
        "set/.DS_Store": b"x",
        "__MACOSX/set/audio/._dog.wav": b"x",
        "set/audio/._dog.wav": b"x",
        "top": b"x",
    }
    out = unpacked(tmp_path, "x.zip", zipped({**MEMBERS, **litter}), strip=1)
    assert tree(out) == {name.removeprefix("set/"): body for name, body in MEMBERS.items()}
    with pytest.raises(BadArchive, match=r"holds no files; fewer than 9 leading folders"):
        unpacked(tmp_path, "x.zip", zipped(), strip=9)


ESCAPES = ["../evil", "a/../../evil", "/tmp/foley-evil", "C:/evil", "c:evil", "..\\evil", "\\\\host\\evil"]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_member_leaves_its_folder(inner: Path, name: str) -> None:
    refused(inner, "x.zip", zipped({"good": b"x", name: b"x"}), "member .*evil' has a")
    refused(inner, "x.tar.gz", gzip.compress(tarred({"good": b"x", name: b"x"})), "member .*evil' has a")
    assert not Path("/tmp/foley-evil").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "audio/../../../outside", "C:\\x"])
def test_no_link_points_out(inner: Path, target: str) -> None:
    link = tar_member("set/link", tarfile.SYMTYPE, target)
    refused(inner, "x.tar", tarred(extra=(link,)), "member 'set/link' is a link to .*outside of its folder")
    info = zipfile.ZipInfo("set/link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, target)
    refused(inner, "x.zip", buffer.getvalue(), "member 'set/link' is a link to .*outside of its folder")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "set/gone"])
def test_hard_links_only_to_earlier_members(inner: Path, target: str) -> None:
    link = tar_member("set/link", tarfile.LNKTYPE, target)
    refused(inner, "x.tar", tarred(extra=(link,)), "member 'set/link' is a link to")


def test_links_inside_stay(tmp_path: Path) -> None:
    links = (
        tar_member("set/latest.wav", tarfile.SYMTYPE, "audio/dog.wav"),
        tar_member("set/same.wav", tarfile.LNKTYPE, "set/audio/cat.wav"),
    )
    out = unpacked(tmp_path, "x.tar", tarred(extra=links), strip=1)
    assert os.readlink(out / "latest.wav") == "audio/dog.wav"
    assert (out / "latest.wav").read_bytes() == MEMBERS["set/audio/dog.wav"]
    assert (out / "same.wav").read_bytes() == MEMBERS["set/audio/cat.wav"]


def test_nothing_is_written_through_a_link(inner: Path) -> None:
    """`up` points to its own folder, so `up/../..` looks harmless and is not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tar_member("deep/er/up", tarfile.SYMTYPE, "../.."))
        archive.addfile(tar_member("deep/er/up/evil", tarfile.SYMTYPE, "../../x"))
    refused(inner, "x.tar", buffer.getvalue(), "is there twice, as a (link|folder)|outside of its folder")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tar_member("a/b/c/root", tarfile.SYMTYPE, "../../.."))
        archive.addfile(tar_member("out", tarfile.SYMTYPE, "a/b/c/root/.."))
    refused(inner, "x.tar", buffer.getvalue(), "member 'out' is a link to .*outside of its folder")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_no_devices(inner: Path, kind: bytes) -> None:
    refused(inner, "x.tar", tarred(extra=(tar_member("set/null", kind),)), "member 'set/null' is a device")


def test_bombs_are_defused_while_they_are_written(inner: Path) -> None:
    zeros = {"set/zeros.wav": bytes(20_000_000)}
    for name, body in {"x.zip": zipped(zeros), "x.tar.gz": gzip.compress(tarred(zeros))}.items():
        limits = Limits.of(len(body), unpacked_bytes=1_000_000)
        match = r"more than 4\.0 MB, at member 'set/zeros.wav'.*bomb"
        # Counted while it was written, and the block that was too much was not.
        assert 2_000_000 < refused(inner, name, body, match, limits=limits) <= limits.total_bytes
        limits = Limits.of(len(body), unpacked_bytes=None)
        refused(inner, name, body, "bomb", limits=limits)
    many = {f"set/{number}": b"" for number in range(30)}
    refused(inner, "x.zip", zipped(many), "more than 20 members", limits=Limits(1000, members=20))


def test_a_zip_that_lies_about_sizes(inner: Path) -> None:
    body = zipped({"a": bytes(3_000_000)})
    lie = body.replace(struct.pack("<L", 3_000_000), struct.pack("<L", 10))
    refused(inner, "x.zip", lie, "member 'a' is damaged")


def test_a_tar_header_does_not_fill_the_memory(inner: Path) -> None:
    long = tar_member("x", tarfile.GNUTYPE_LONGNAME)
    long.size = 1 << 33
    refused(
        inner, "x.tar", long.tobuf(tarfile.GNU_FORMAT) + bytes(10_000), r"header of 8\.6 GB, taken for a bomb"
    )


@pytest.mark.parametrize(
    ("name", "cut", "match"),
    [
        ("x.zip", 300, "no zip directory at its end"),
        ("x.tar", 30_000, "damaged or cut off at member"),
        # Between two members, where tarfile would see the end of a whole archive.
        ("x.tar", 512 + 70_144, "damaged or cut off after member 'set/audio/dog.wav'"),
        ("x.tar.gz", 20_000, "damaged or cut off"),
        ("x.tar.bz2", 20_000, "damaged or cut off"),
        ("x.tar.xz", 20_000, "damaged or cut off"),
    ],
)
def test_what_is_cut_off_is_named(inner: Path, name: str, cut: int, match: str) -> None:
    refused(inner, name, PACKED[name]()[:cut], match)


def test_a_flipped_bit_is_found(inner: Path) -> None:
    for name in ("x.zip", "x.tar.gz"):
        body = bytearray(PACKED[name]())
        body[30_000] ^= 1
        refused(inner, name, bytes(body), "damaged")
    body = bytearray(tarred())
    body[512 + 70_144 + 10] ^= 1  # in the second header
    refused(inner, "x.tar", bytes(body), "damaged or cut off after member 'set/audio/dog.wav': bad checksum")
    body = bytearray(gzip.compress(tarred()))
    body[-6] ^= 1  # the checksum of the whole stream
    refused(inner, "x.tar.gz", bytes(body), "damaged or cut off: CRC")


def test_what_only_looks_like_an_archive(inner: Path) -> None:
    page = b"<!DOCTYPE html><title>404</title>" + b" " * 2000
    refused(inner, "x.zip", page, "begins with b'<!DOCTYPE")
    refused(inner, "x.tar.gz", page, "begins with b'<!DOCTYPE")
    refused(inner, "x.rar", page, "no RAR archive; it begins with b'<!DOCTYPE")


def test_encrypted_and_unknown_methods_are_named(inner: Path) -> None:
    body = bytearray(zipped({"a.wav": b"x"}, zipfile.ZIP_STORED))
    at = body.index(b"PK\1\2")
    body[6] |= 1
    body[at + 8] |= 1
    refused(inner, "x.zip", bytes(body), "member 'a.wav' is encrypted.*path")
    body = bytearray(zipped({"a.wav": b"x"}, zipfile.ZIP_STORED))
    body[8], body[at + 10] = 9, 9  # Deflate64, as Windows writes files above 2 GB
    refused(inner, "x.zip", bytes(body), "member 'a.wav' is packed with method 9")


def test_a_file_and_a_folder_of_one_name(inner: Path) -> None:
    refused(inner, "x.tar", tarred({"a": b"x", "a/b": b"x"}), "twice, as a folder and as a file")


# --- split zips ---


def split_zip(members: dict[str, bytes], part_bytes: int, *, zip64: bool = False) -> list[bytes]:
    """Parts as Info-ZIP's `zip -s` writes them: a mark first, offsets from the start of each part."""
    whole = zipped(members, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        infos = archive.infolist()
        directory_start = archive.start_dir
    stream = bytearray(b"PK\7\x08")
    places = {}
    starts = [info.header_offset for info in infos] + [directory_start]
    for info, start, end in zip(infos, starts, starts[1:], strict=False):
        # A local header stays in one part.
        header = 30 + len(info.filename)
        if len(stream) % part_bytes + header > part_bytes:
            stream += bytes(part_bytes - len(stream) % part_bytes)
        places[info.filename] = divmod(len(stream), part_bytes)
        stream += whole[start:end]
    directory_at = divmod(len(stream), part_bytes)
    directory = bytearray(whole[directory_start : whole.rindex(b"PK\5\6")])
    at = 0
    while at < len(directory):
        name_length, extra, comment = struct.unpack_from("<3H", directory, at + 28)
        disk_number, offset = places[directory[at + 46 : at + 46 + name_length].decode()]
        struct.pack_into("<H", directory, at + 34, disk_number)
        struct.pack_into("<L", directory, at + 42, offset)
        at += 46 + name_length + extra + comment
    count, size = len(infos), len(directory)
    end_record = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, directory_at[0], count, count, size, directory_at[1], 0
    )
    record64 = b""
    if zip64:
        record64 = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, directory_at[0], count, count, size, directory_at[1]
        )
        end_record = struct.pack(
            "<4s4H2LH", b"PK\5\6", 0, directory_at[0], count, count, 0xFFFFFFFF, 0xFFFFFFFF, 0
        )
    tail_bytes = len(record64) + (20 if zip64 else 0) + len(end_record)
    # The end records stay in one part too.
    fill = part_bytes - (len(stream) + size) % part_bytes
    assert fill >= tail_bytes, "choose other sizes"
    stream += directory
    last = len(stream) // part_bytes
    if zip64:
        where = divmod(len(stream), part_bytes)
        record64 = bytearray(record64)
        struct.pack_into("<L", record64, 16, last)
        stream += record64 + struct.pack("<4sLQL", b"PK\6\7", where[0], where[1], last + 1)
    end_record = bytearray(end_record)
    struct.pack_into("<H", end_record, 4, last)
    stream += end_record
    return [bytes(stream[start : start + part_bytes]) for start in range(0, len(stream), part_bytes)]


SPLIT_MEMBERS = {f"set/{n}.wav": RANDOM.bytes(20_000 + n) for n in range(12)}


def write_parts(folder: Path, parts: list[bytes], stem: str = "clips") -> list[Path]:
    names = [f"{stem}.z{number:02d}" for number in range(1, len(parts))] + [f"{stem}.zip"]
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part)
    return [folder / name for name in names]


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("part_bytes", [65_536, 30_000])
def test_a_split_zip_is_read_without_a_merged_copy(tmp_path: Path, part_bytes: int, zip64: bool) -> None:
    parts = write_parts(tmp_path, split_zip(SPLIT_MEMBERS, part_bytes, zip64=zip64))
    assert len(parts) >= 4
    unpack(parts, tmp_path / "out", limits=PLENTY)
    assert tree(tmp_path / "out") == SPLIT_MEMBERS
    with pytest.raises(BadArchive, match=rf"last of {len(parts)} parts, but {len(parts) - 1} are given"):
        unpack(parts[1:], tmp_path / "less", limits=PLENTY)
    with pytest.raises(BadArchive, match=rf"last of {len(parts)} parts, but 1 are given"):
        unpack(parts[-1:], tmp_path / "least", limits=PLENTY)
    with pytest.raises(BadArchive, match=r"damaged or cut off|no whole zip"):
        unpack([parts[1], parts[0], *parts[2:]], tmp_path / "mixed", limits=PLENTY)


@pytest.mark.skipif(shutil.which("zip") is None, reason="no Info-ZIP here")
def test_a_split_zip_of_the_real_program(tmp_path: Path) -> None:
    for name, body in SPLIT_MEMBERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    subprocess.run(["zip", "-q", "-r", "-s", "64k", "clips.zip", "set"], cwd=tmp_path, check=True)
    parts = [*sorted(tmp_path.glob("clips.z[0-9]*")), tmp_path / "clips.zip"]
    assert len(parts) >= 4
    unpack(parts, tmp_path / "out", limits=PLENTY)
    assert tree(tmp_path / "out") == SPLIT_MEMBERS


def test_offsets_beyond_4_gib(tmp_path: Path) -> None:
    """A split zip whose first part is a hole of 5 GB: what follows needs wide offsets once it is whole."""
    body = zipped({"far.wav": b"far away"}, zipfile.ZIP_STORED)
    first = tmp_path / "clips.z01"
    with first.open("wb") as file:
        file.truncate(5_000_000_000)
    last = bytearray(body)
    entry, end = last.index(b"PK\1\2"), last.index(b"PK\5\6")
    struct.pack_into("<H", last, entry + 34, 1)
    struct.pack_into("<HH", last, end + 4, 1, 1)
    (tmp_path / "clips.zip").write_bytes(last)
    with join([first, tmp_path / "clips.zip"]) as file, zipfile.ZipFile(file) as archive:
        assert archive.infolist()[0].header_offset == 5_000_000_000
        assert archive.read("far.wav") == b"far away"


def test_plain_pieces_are_joined(tmp_path: Path) -> None:
    body = zipped()
    parts = [tmp_path / f"x.zip.{number:03d}" for number in (1, 2)]
    parts[0].write_bytes(body[:40_000])
    parts[1].write_bytes(body[40_000:])
    unpack(parts, tmp_path / "out", limits=PLENTY)
    assert tree(tmp_path / "out") == MEMBERS
    assert archive_kind("x.ZIP") == "zip" and archive_kind("labels.csv") is None


# --- RAR ---


def rar(
    members: dict[str, bytes], *, method: int = 0x30, solid: bool = False, flags: int = 0, end: bool = True
) -> bytes:
    """A RAR 4 archive as the format's description has it; with method 0x30 the members are stored."""

    def block(kind: int, block_flags: int, rest: bytes, data: bytes = b"") -> bytes:
        head = struct.pack("<BHH", kind, block_flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + data

    out = b"Rar!\x1a\x07\x00" + block(0x73, 0x0008 if solid else 0, bytes(6))
    for name, body in members.items():
        when = ((2001 - 1980) << 25) | (9 << 21) | (9 << 16) | (1 << 11) | (46 << 5) | 20
        mode = 0o100644
        rest = struct.pack(
            "<LLBLLBBHL", len(body), len(body), 3, zlib.crc32(body), when, 29, method, len(name), mode
        )
        out += block(0x74, 0x8000 | flags, rest + name.encode(), body)
    return out + (block(0x7B, 0x4000, b"") if end else b"")


def test_a_rar_of_stored_members_needs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for solid in (False, True):
        out = unpacked(tmp_path, "clips.rar", rar(MEMBERS, solid=solid))
        assert tree(out) == MEMBERS
        assert abs((out / "set/audio/dog.wav").stat().st_mtime - LONG_AGO) <= 26 * 3600
        shutil.rmtree(out)


def test_bad_rars(inner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(inner / "empty"))
    refused(inner, "x.rar", rar({"../evil": b"x"}), r"member '../evil' has a path that leaves")
    refused(inner, "x.rar", rar(MEMBERS, end=False), "cut off: its end mark is missing")
    refused(inner, "x.rar", rar(MEMBERS)[:90_000], "cut off|damaged")
    body = bytearray(rar(MEMBERS))
    body[30_000] ^= 1
    refused(inner, "x.rar", bytes(body), r"damaged or cut off at member 'set/audio/dog\.wav': .*CRC")
    refused(inner, "x.rar", rar(MEMBERS, flags=0x0004), "member 'set/audio/dog.wav' is encrypted")
    refused(inner, "x.rar", rar(MEMBERS, method=0x33), "install `unrar`, `unar`, `bsdtar`.*start again")


@pytest.mark.parametrize("solid", [False, True])
def test_packed_members_go_through_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solid: bool
) -> None:
    """`unrar p` prints all members of an archive, one after the other; ours takes their data as it lies there."""
    program = tmp_path / "bin" / "unrar"
    program.parent.mkdir()
    calls = tmp_path / "calls"
    program.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import struct, sys
        open({str(calls)!r}, "a").write(" ".join(sys.argv[1:3]) + "\\n")
        if "-?" in sys.argv:
            sys.exit(0)
        body, at = open(sys.argv[sys.argv.index("--") + 1], "rb").read(), 7
        while at < len(body):
            kind, flags, size = struct.unpack_from("<BHH", body, at + 2)
            data = struct.unpack_from("<L", body, at + 7)[0] if flags & 0x8000 else 0
            if kind == 0x74:
                sys.stdout.buffer.write(body[at + size : at + size + data])
            at += size + data
        """)
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    out = unpacked(tmp_path, "clips.rar", rar(MEMBERS, method=0x33, solid=solid))
    assert tree(out) == MEMBERS
    # One process for all members of a solid archive, else one each.
    assert calls.read_text().splitlines().count("p -inul") == (1 if solid else len(MEMBERS))
    shutil.rmtree(out)
    body = bytearray(rar(MEMBERS, method=0x33, solid=solid))
    body[30_000] ^= 1
    with pytest.raises(BadArchive, match=r"dog\.wav.*damaged|damaged.*dog\.wav"):
        unpacked(tmp_path, "clips.rar", bytes(body))


# --- sources ---

ZIP = zipped()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Any]:
    return {
        "root": tmp_path / "data" / "tiny",
        "archives": tmp_path / "data" / "archives",
        "title": "Tiny",
        "patience": QUICK,
    }


def tiny(site: Site, **more: Any) -> Source:
    site.put("/v1/tiny.zip", ZIP)
    file = RemoteFile(site.url("/v1/tiny.zip?download=1"), len(ZIP), md5(ZIP))
    return Source("audio", (file,), **{"strip": 1, **more})


TREE = {name.removeprefix("set/"): body for name, body in MEMBERS.items()}


def test_a_source_becomes_a_tree_and_a_marker(site: Site, tmp_path: Path, places: dict[str, Any]) -> None:
    source = tiny(site, unpacked_bytes=120_000)
    assert source_from(json.loads(json.dumps(asdict(source)))) == source
    (pending,) = missing(source, places["archives"])
    assert (
        str(pending)
        == f"tiny.zip  {readable(len(ZIP))}  {site.url('/v1/tiny.zip')}  -> {places['archives']}/tiny.zip"
    )
    marker = places["root"] / ".foley" / "audio.json"
    secret = {"params": {"urls": [site.url("/v1/tiny.zip?token=hush"), 3]}, "rule": "download_dataset"}
    fetch_source(marker, source=source, provenance=secret, **places)
    assert tree(places["root"]) == TREE
    facts = json.loads(marker.read_text())
    assert facts["files"] == [
        {
            "name": "tiny.zip",
            "url": site.url("/v1/tiny.zip"),
            "size_bytes": len(ZIP),
            "checksum": md5(ZIP),
            "sha256": sha256(ZIP)[7:],
        }
    ]
    assert facts["source"] == "audio" and facts["unpacked"] == {
        "files": 3,
        "bytes": sum(map(len, TREE.values())),
    }
    assert facts["provenance"]["params"]["urls"] == [site.url("/v1/tiny.zip"), 3]
    assert list(places["archives"].iterdir()) == []  # the archive, its notes and locks are gone
    assert sorted(p.name for p in marker.parent.iterdir()) == ["audio.json", "audio.tree"]


def test_what_is_unpacked_is_not_fetched_again(site: Site, places: dict[str, Any]) -> None:
    source = tiny(site)
    marker = places["root"] / "marker.json"
    fetch_source(marker, source=source, **places)
    facts = marker.read_bytes()
    marker.unlink()  # as a workflow does before it runs the job again
    site.requests.clear()
    fetch_source(marker, source=source, offline=True, **places)
    assert site.requests == [] and marker.read_bytes() == facts
    # A tree that lacks a file, or is of another version, is made anew.
    (places["root"] / "audio/dog.wav").unlink()
    fetch_source(marker, source=source, **places)
    assert len(site.requests) == 1 and tree(places["root"]) == {**TREE, "marker.json": facts}
    newer = zipped({"set/audio/dog.wav": b"better"})
    site.put("/v1/tiny.zip", newer)
    better = Source("audio", (RemoteFile(site.url("/v1/tiny.zip"), len(newer)),), strip=1)
    fetch_source(marker, source=better, **places)
    marker.unlink()
    assert tree(places["root"]) == {"audio/dog.wav": b"better"}


def test_a_file_put_there_by_hand_is_taken_checked_and_left(
    site: Site, places: dict[str, Any], tmp_path: Path
) -> None:
    source = tiny(site)
    mine = places["archives"] / "tiny.zip"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(ZIP[:-1] + b"?")
    with pytest.raises(WrongContent) as error:
        fetch_source(tmp_path / "m.json", source=source, **places)
    assert f"{mine} is not the published tiny.zip" in str(error.value)
    assert md5(ZIP)[4:] in str(error.value) and md5(mine.read_bytes())[4:] in str(error.value)
    assert mine.is_file() and not (tmp_path / "m.json").exists() and tree(places["root"]) == {}
    mine.write_bytes(ZIP)
    assert missing(source, places["archives"]) == []
    fetch_source(tmp_path / "m.json", source=source, offline=True, **places)
    assert tree(places["root"]) == TREE and site.requests == []
    assert mine.read_bytes() == ZIP  # a file of the user's is never removed


def test_offline_lists_what_is_missing(
    site: Site, places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(RemoteFile(site.url(f"/{name}"), 10**9) for name in ("x.z01", "x.z02", "x.zip"))
    (places["archives"]).mkdir(parents=True)
    (places["archives"] / "x.z02").write_bytes(b"x")
    for variable in (None, "FOLEY_OFFLINE", "HF_HUB_OFFLINE"):
        if variable:
            monkeypatch.setenv(variable, "1")
        with pytest.raises(DownloadError, match="Tiny: audio is not here and Foley is offline") as error:
            fetch_source(tmp_path / "m", source=Source("audio", parts), offline=variable is None, **places)
        for name in ("x.z01", "x.zip"):
            assert f"download {site.url('/' + name)} (1.0 GB) by hand and put it at" in str(error.value)
            assert str(places["archives"] / name) in str(error.value)
        assert "x.z02" not in str(error.value)
        if variable:
            monkeypatch.delenv(variable)
    assert site.requests == []
    pending = missing(Source("audio", parts), places["archives"])
    assert [(each.name, each.left_bytes) for each in pending] == [("x.z01", 10**9), ("x.zip", 10**9)]


def test_a_file_from_elsewhere_keeps_its_name(site: Site, places: dict[str, Any], tmp_path: Path) -> None:
    """As the config's `mirror` and `downloads` have it: another address, the publisher's name."""

    def moved(url: str, body: bytes) -> Source:
        return Source("audio", (RemoteFile(url, len(body), md5(body), filename="tiny.zip"),), strip=1)

    source = tiny(site)
    site.put("/mirror/tiny.zip", ZIP)
    mirror = below(site.url("/mirror/?key=hush"), "tiny.zip")
    fetch_source(tmp_path / "m", source=moved(mirror, ZIP), **places)
    assert [request.path for request in site.requests] == ["/mirror/tiny.zip?key=hush"]
    assert tree(places["root"]) == TREE and "hush" not in (tmp_path / "m").read_text()
    # The same content from another place is the same tree.
    fetch_source(tmp_path / "m", source=source, **places)
    assert len(site.requests) == 1
    repacked = zipped(method=zipfile.ZIP_STORED)
    assert repacked != ZIP
    url = site.url("/repacked?id=7")
    site.put("/repacked", repacked)
    (pending,) = missing(moved(url, repacked), places["archives"])
    assert (pending.name, pending.url) == ("tiny.zip", site.url("/repacked"))
    assert pending.place == places["archives"] / "tiny.zip"
    fetch_source(tmp_path / "m", source=moved(url, repacked), **places)
    assert tree(places["root"]) == TREE
    (file,) = json.loads((tmp_path / "m").read_text())["files"]
    assert (file["name"], file["sha256"]) == ("tiny.zip", sha256(repacked)[7:])
    # Checks remain: another place alone does not make another file right.
    shutil.rmtree(places["root"])
    with pytest.raises(WrongContent, match="expected"):
        fetch_source(tmp_path / "m", source=moved(url, ZIP), **places)


@pytest.mark.parametrize(
    ("url", "filename"), [("/..?x=1", None), ("/tiny.zip", "../tiny.zip"), ("/tiny.zip", "a\\b.zip")]
)
def test_a_file_needs_a_name_of_its_own(
    site: Site, places: dict[str, Any], tmp_path: Path, url: str, filename: str | None
) -> None:
    source = Source("audio", (RemoteFile(site.url(url), 5, filename=filename),))
    with pytest.raises(DownloadError, match="cannot name a file"):
        missing(source, places["archives"])
    with pytest.raises(DownloadError, match="cannot name a file"):
        fetch_source(tmp_path / "m", source=source, **places)
    assert site.requests == [] and not places["archives"].exists()


def test_plain_files_and_places(site: Site, places: dict[str, Any], tmp_path: Path) -> None:
    site.put("/meta/labels.csv", b"a,b\n")
    table = Source("labels", (RemoteFile(site.url("/meta/labels.csv"), 4),), into="meta")
    fetch_source(tmp_path / "m", source=table, **places)
    fetch_source(tmp_path / "m2", source=tiny(site), **places)
    assert tree(places["root"]) == {**TREE, "meta/labels.csv": b"file,label\ndog.wav,dog\n"}
    facts = json.loads((tmp_path / "m").read_text())
    assert facts["files"][0]["sha256"] == sha256(b"a,b\n")[7:] and facts["files"][0]["checksum"] is None
    assert facts["unpacked"] == {"files": 1, "bytes": 4}
    with pytest.raises(DownloadError, match="leaves the folder"):
        fetch_source(tmp_path / "m", source=Source("x", table.files, into="../up"), **places)


def test_a_split_zip_from_the_server(site: Site, places: dict[str, Any], tmp_path: Path) -> None:
    parts = split_zip(SPLIT_MEMBERS, 65_536)
    names = [f"FSD.z{n:02d}" for n in range(1, len(parts))] + ["FSD.zip"]
    for name, part in zip(names, parts, strict=True):
        site.put(f"/{name}", part).troubles = [Trouble(drop_after=20_000)]
    files = tuple(
        RemoteFile(site.url(f"/{n}?download=1"), len(p), md5(p)) for n, p in zip(names, parts, strict=True)
    )
    fetch_source(tmp_path / "m", source=Source("dev", files), **places)
    assert tree(places["root"]) == SPLIT_MEMBERS


def test_an_archive_that_would_do_harm_leaves_nothing(
    site: Site, places: dict[str, Any], tmp_path: Path
) -> None:
    body = zipped({"good.wav": b"x", "../evil.wav": b"x"})
    site.put("/bad.zip", body)
    source = Source("audio", (RemoteFile(site.url("/bad.zip"), len(body)),))
    with pytest.raises(BadArchive, match=r"Tiny: bad\.zip: member '\.\./evil\.wav'.*kept in .*archives"):
        fetch_source(tmp_path / "m", source=source, **places)
    assert tree(places["root"]) == {} and not (tmp_path / "m").exists()
    assert not list(tmp_path.rglob("*evil*"))
    assert (places["archives"] / "bad.zip").is_file()


@pytest.mark.parametrize("free", [10_000, len(ZIP) + 100_000])
def test_the_disk_is_looked_at_first(
    site: Site, places: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    usage = SimpleNamespace(total=10**9, used=0, free=free)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    source = tiny(site, unpacked_bytes=120_024)
    with pytest.raises(DownloadError) as error:
        fetch_source(tmp_path / "m", source=source, **places)
    message = str(error.value)
    assert readable(len(ZIP) + 120_024) in message and readable(free) in message and str(tmp_path) in message
    assert site.requests == []
    usage.free = len(ZIP) + 120_024
    fetch_source(tmp_path / "m", source=source, **places)
    assert tree(places["root"]) == TREE


def test_secrets_stay_out_of_logs_and_errors(
    site: Site, places: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = site.base.replace("http://", "http://user:hush@")
    site.put("/gone.zip", b"").troubles = [Trouble(drop_after=0)] * 9
    urls = [
        f"{base}/no.zip?key=hush",
        f"{base}/gone.zip?key=hush",
        "http://user:hush@127.0.0.1:9/x.zip?key=hush",
    ]
    with caplog.at_level(logging.DEBUG, "foley"):
        for url in urls:
            source = Source("audio", (RemoteFile(url, 1000),))
            with pytest.raises(DownloadError) as error:
                fetch_source(tmp_path / "m", source=source, **places)
            assert "hush" not in "".join(traceback.format_exception(error.value))
            assert not any("hush" in str(pending) for pending in missing(source, places["archives"]))
    assert "hush" not in caplog.text
    assert all(b"hush" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_sources_of_one_root_side_by_side(site: Site, places: dict[str, Any], tmp_path: Path) -> None:
    sources = []
    for number in range(4):
        body = zipped({f"audio/{number}-{clip}.wav": RANDOM.bytes(1000) for clip in range(20)})
        site.put(f"/{number}.zip", body)
        sources.append(Source(f"audio.{number}", (RemoteFile(site.url(f"/{number}.zip"), len(body)),)))
    failures = []

    def fetch(source: Source) -> None:
        try:
            fetch_source(tmp_path / f"{source.name}.json", source=source, **places)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch, args=(source,)) for source in sources * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(tree(places["root"])) == 80
    assert len(site.requests) == 4  # the second call for a source found it done


def test_the_second_process_waits(site: Site, tmp_path: Path) -> None:
    source = tiny(site)
    site.files["/v1/tiny.zip"].slow_s = 0.1
    children = [start_child(source, tmp_path) for _ in range(2)]
    assert [child.wait(20) for child in children] == [0, 0], [child.stderr.read() for child in children]
    assert len(site.requests) == 1 and tree(tmp_path / "root") == TREE
    assert sum("waiting for it" in child.stderr.read() for child in children) == 1


# --- killed ---


def start_child(source: Source, folder: Path, before: str = "") -> subprocess.Popen[str]:
    """A process that fetches a source; ``before`` runs first in it."""
    program = f"""
import json, logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from foley.download import archives, fetch
{before}
folder = Path({str(folder)!r})
source = fetch.source_from(json.loads({json.dumps(asdict(source))!r}))
fetch.fetch_source(folder / "m.json", source=source, root=folder / "root", archives=folder / "archives", title="Tiny")
"""
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True
    )


def kill_when(child: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert child.poll() is None and time.monotonic() < deadline, child.stderr and child.stderr.read()
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_killed_in_the_middle_of_a_download(site: Site, tmp_path: Path) -> None:
    body = zipped({"set/long.wav": RANDOM.bytes(6_000_000)}, zipfile.ZIP_STORED)
    site.put("/v1/tiny.zip", body, slow_s=0.003)
    source = Source("audio", (RemoteFile(site.url("/v1/tiny.zip"), len(body), sha256(body)),), strip=1)
    part = tmp_path / "archives" / "tiny.zip.part"
    kill_when(start_child(source, tmp_path), lambda: part.exists() and part.stat().st_size > 2_000_000)
    have = part.stat().st_size
    site.files["/v1/tiny.zip"].slow_s = 0
    child = start_child(source, tmp_path)
    assert child.wait(20) == 0, child.stderr and child.stderr.read()
    assert site.ranges() == [None, f"bytes={have}-"] and site.requests[1].sent == len(body) - have
    assert list(tree(tmp_path / "root")) == ["long.wav"]


def test_killed_in_the_middle_of_unpacking(site: Site, tmp_path: Path) -> None:
    source = tiny(site)
    staging = tmp_path / "root" / ".foley" / "audio.unpacking"
    slow = """
import time
count = archives._Sink.count
archives._Sink.count = lambda self, n: (count(self, n), time.sleep(0.2))
"""
    kill_when(start_child(source, tmp_path, slow), lambda: (staging / "audio" / "cat.wav").exists())
    assert tree(tmp_path / "root") == {}  # no half tree
    (staging / "leftover").write_bytes(b"x")
    child = start_child(source, tmp_path)
    assert child.wait(20) == 0, child.stderr and child.stderr.read()
    assert len(site.requests) == 1  # the archive had come
    assert tree(tmp_path / "root") == TREE and not staging.exists()
    assert list((tmp_path / "archives").iterdir()) == []


def test_killed_while_the_tree_moves_into_place(site: Site, tmp_path: Path) -> None:
    source = tiny(site)
    (tmp_path / "root" / "audio").mkdir(parents=True)
    (tmp_path / "root" / "audio" / "mine.wav").write_bytes(b"x")
    slow = """
import time
move = fetch.os.replace
fetch.os.replace = lambda *a: (move(*a), time.sleep(0.1))
"""
    kill_when(start_child(source, tmp_path, slow), lambda: (tmp_path / "root/audio/cat.wav").exists())
    assert not (tmp_path / "m.json").exists()
    child = start_child(source, tmp_path)
    assert child.wait(20) == 0, child.stderr and child.stderr.read()
    assert tree(tmp_path / "root") == {**TREE, "audio/mine.wav": b"x"}


def test_the_script(site: Site, places: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.delenv("FOLEY_WORKFLOW", raising=False)
    marker = places["root"] / ".foley" / "audio.json"
    job = SimpleNamespace(
        rule="download_dataset",
        wildcards=_Wildcards(storage="tiny", source="audio"),
        threads=1,
        resources={},
        log=[str(places["root"].parent / "job.log")],
        output=[str(marker)],
        params=_Wildcards(
            source=asdict(tiny(site)), root=str(places["root"]), archives=str(places["archives"])
        ),
    )
    script = LIBRARY / "scripts" / "download_dataset.py"
    runpy.run_path(str(script), init_globals={"snakemake": job})
    assert tree(places["root"]) == TREE
    facts = json.loads(marker.read_text())
    assert facts["title"] == "tiny" and facts["provenance"]["rule"] == "download_dataset"
    assert facts["provenance"]["params"]["source"]["files"][0]["url"] == site.url("/v1/tiny.zip")
    # Without a network: three lines on the terminal, the whole in the log, and a failed job.
    shutil.rmtree(places["root"])
    monkeypatch.setenv("FOLEY_OFFLINE", "1")  # as the rules set it
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), init_globals={"snakemake": job})
    assert "Foley is offline" in Path(job.log[0]).read_text() and not marker.exists()


class _Wildcards(dict):  # type: ignore[type-arg]
    """Snakemake's named values: by attribute and by key."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


# --- the hub ---

REVISION = "0123456789abcdef0123456789abcdef01234567"
PARQUET = {"data/train-0.parquet": RANDOM.bytes(50_000), "data/test-0.parquet": RANDOM.bytes(20_000)}


def serve_hub(site: Site) -> None:
    """The endpoints that huggingface_hub asks for a snapshot: the tree, and each file."""
    readme = b"# clips\n"
    listing: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "data"}]
    blob = hashlib.sha1(b"blob %d\0" % len(readme) + readme).hexdigest()
    listing.append({"type": "file", "oid": blob, "size": len(readme), "path": "README.md"})
    for name, body in {**PARQUET, "README.md": readme}.items():
        digest = hashlib.sha256(body).hexdigest()
        etag = blob if name == "README.md" else digest
        served = site.put(f"/datasets/foley/tiny/resolve/{REVISION}/{name}", body, etag=f'"{etag}"')
        served.troubles = [Trouble(headers={"X-Repo-Commit": REVISION}) for _ in range(9)]
        if name != "README.md":
            lfs = {"oid": digest, "size": len(body), "pointerSize": 130}
            listing.append({"type": "file", "oid": "1" * 40, "size": len(body), "path": name, "lfs": lfs})
    body = json.dumps(listing).encode()
    served = site.put(f"/api/datasets/foley/tiny/tree/{REVISION}", body)
    served.troubles = [Trouble(headers={"Content-Type": "application/json"}) for _ in range(9)]


@pytest.fixture
def hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """A function that fetches a hub source in a process of its own: the library reads the environment once."""
    serve_hub(site)

    def fetch(source: HubSource, *others: HubSource, **more: Any) -> SimpleNamespace:
        sources = json.dumps([asdict(each) for each in (source, *others)])
        program = f"""
import json, logging
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from foley.download.fetch import fetch_source, source_from
from foley.download.errors import DownloadError
from foley.download.http import Patience
folder = Path({str(tmp_path)!r})
patience = Patience(attempts=2, first_wait_s=0.01)
for source in map(source_from, json.loads({sources!r})):
    try:
        fetch_source(folder / "m.json", source=source, root=folder / "root", archives=folder / "archives",
                     title="Tiny", patience=patience, **{more!r})
    except DownloadError as error:
        print(f"{{type(error).__name__}}: {{error}}")
"""
        environment = {
            **os.environ,
            "PYTHONPATH": str(LIBRARY),
            "HF_ENDPOINT": site.base,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "hf_hush",
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "hush" not in done.stdout + done.stderr
        assert "HTTP Request" not in done.stderr  # it would show signed URLs
        return SimpleNamespace(error=done.stdout.strip(), log=done.stderr)

    return fetch


def asked(site: Site) -> list[str]:
    """Paths of the repository that were asked for."""
    return [request.path.partition("?")[0] for request in site.requests if "tiny" in request.path]


def test_a_snapshot_of_the_hub(hub: Callable[..., SimpleNamespace], site: Site, tmp_path: Path) -> None:
    source = HubSource("clips", "foley/tiny", REVISION)
    snapshot = tmp_path / "archives" / "foley--tiny@0123456789ab"
    # It has come, and then something is in its way.
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "data").touch()
    assert "is a file where a folder of the archive goes" in hub(source).error
    assert all(r.headers.get("Authorization", r.headers.get("authorization")) == "Bearer hf_hush"
               for r in site.requests if "tiny" in r.path)  # fmt: skip
    assert tree(snapshot).items() >= PARQUET.items()
    shutil.copytree(snapshot, tmp_path / "copy")
    (tmp_path / "root" / "data").unlink()
    # Without the tree, but with the snapshot, no connection is needed.
    site.requests.clear()
    assert hub(source, offline=True).error == ""
    assert tree(tmp_path / "root") == PARQUET
    facts = json.loads((tmp_path / "m.json").read_text())
    assert facts["revision"] == REVISION and facts["repo"] == "foley/tiny"
    assert {f["name"]: f["sha256"] for f in facts["files"]} == {n: sha256(b)[7:] for n, b in PARQUET.items()}
    assert list((tmp_path / "archives").iterdir()) == []
    # One that a person has put there stays.
    (tmp_path / "copy").rename(snapshot)
    shutil.rmtree(tmp_path / "root")
    assert hub(source, offline=True).error == ""
    assert asked(site) == [] and tree(tmp_path / "root") == PARQUET
    assert tree(snapshot).items() >= PARQUET.items()


def test_a_snapshot_goes_on_and_is_checked(
    hub: Callable[..., SimpleNamespace], site: Site, tmp_path: Path
) -> None:
    train = site.files[f"/datasets/foley/tiny/resolve/{REVISION}/data/train-0.parquet"]
    right, train.body = train.body, train.body[::-1]
    source = HubSource("clips", "foley/tiny", REVISION)
    found = hub(source)
    assert found.error.startswith("WrongContent: foley/tiny at 0123456789ab: data/train-0.parquet has sha256")
    assert sha256(right)[7:] in found.error and not (tmp_path / "m.json").exists()
    train.body = right
    site.requests.clear()
    assert hub(source).error == ""
    assert tree(tmp_path / "root") == PARQUET
    assert {path.rpartition("/")[2] for path in asked(site)} == {"train-0.parquet"}


def test_what_the_hub_refuses(hub: Callable[..., SimpleNamespace], site: Site, tmp_path: Path) -> None:
    listing = site.files[f"/api/datasets/foley/tiny/tree/{REVISION}"]
    source = HubSource("clips", "foley/tiny", REVISION, size_bytes=70_000)
    expected = (
        ("GatedRepo", 403, "foley/tiny is gated: open https://huggingface.co/datasets/foley/tiny, accept"),
        ("RepoNotFound", 404, f"there is no dataset foley/tiny at {site.base}"),
        ("RevisionNotFound", 404, "has no commit 0123456789abcdef"),
    )
    listing.troubles[:0] = [Trouble(status, {"X-Error-Code": code}) for code, status, _ in expected]
    listing.troubles.insert(3, Trouble(503))
    nothing = HubSource("x", "foley/tiny", REVISION, ("*.flac",))
    found = hub(source, source, source, nothing)
    *refusals, last = found.error.splitlines()
    for line, (_, _, words) in zip(refusals, expected, strict=True):
        assert line.startswith("DownloadError: ") and words in line
    assert "no file that matches *.flac" in last
    assert len(asked(site)) == 5  # a server's bad moment was sat out
    shutil.rmtree(tmp_path / "archives")
    offline = hub(source, offline=True).error
    assert "Foley is offline" in offline and "(70.0 kB)" in offline
    assert f"hf download foley/tiny --repo-type dataset --revision {REVISION}" in offline
    assert f"at {tmp_path}/archives/foley--tiny@0123456789ab" in offline


def test_a_branch_is_no_pin(tmp_path: Path, places: dict[str, Any]) -> None:
    source = HubSource("clips", "foley/tiny", "main")
    with pytest.raises(
        DownloadError, match=r"'main' is no commit.*git ls-remote https://huggingface\.co/datasets"
    ):
        fetch_source(tmp_path / "m", source=source, **places)


def test_asking_for_sizes_loads_no_network_library() -> None:
    program = (
        "import sys, foley.download.fetch, foley.encoders.weights\n"
        "print(*({'requests', 'huggingface_hub', 'torch', 'pyarrow', 'rarfile', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""
