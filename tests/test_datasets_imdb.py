"""The IMDb reader on a tiny corpus of the same shape, its errors, its cache, the download, and the real corpus."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import pickle
import socket
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

import corpus_tools as tools
from fastrnn import datasets
from fastrnn.datasets import DatasetError, DatasetUnavailable, archive, cache, download, imdb

REAL = os.environ.get("FASTRNN_DATA")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No source but what the test makes, and no download."""
    monkeypatch.setattr(archive, "REVIEWS_PER_FOLDER", tools.COUNT)
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.chdir(tmp_path)

    def refuse(url, sha256, target):
        raise DatasetUnavailable(f"no network: {url} {sha256} {target}")

    monkeypatch.setattr(download, "fetch", refuse)


def same(a, b):
    assert a.vocabulary.words == b.vocabulary.words
    for x, y in ((a.train, b.train), (a.test, b.test)):
        assert [row.tolist() for row in x] == [row.tolist() for row in y]
    np.testing.assert_array_equal(a.train_labels, b.train_labels)
    np.testing.assert_array_equal(a.test_labels, b.test_labels)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archive_is_read_in_the_order_of_its_numbers(tmp_path, format):
    files = {**tools.members(), f"aclImdb/{'x' * 90}/{'y' * 90}.txt": b"skipped"}
    reviews = archive.read_archive(tools.write_archive(tmp_path / "a.tar.gz", files, format))
    for folder in archive.FOLDERS:
        assert [raw.decode() for raw in reviews[folder]] == tools.in_order(folder)


def test_archive_and_folder_and_places_agree(tmp_path, monkeypatch):
    tools.write_archive(tmp_path / "a" / "aclImdb.tar.gz")
    expected = imdb.load_encoded(tmp_path / "a")
    assert len(expected.train) == len(expected.test) == 6
    assert expected.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert expected.vocabulary.words[:2] == ("the", "good")
    decoded = [expected.vocabulary.decode(row) for row in expected.train]
    assert decoded[1] == "bad film really bad" and decoded[3] == "the end was the best caf\u00e9"
    assert expected.vocabulary.decode(expected.test[1]) == "? ? bad film"
    tools.write_archive(tmp_path / "b" / "imdb" / "aclImdb_v1.tar.gz")
    tools.write_folder(tmp_path / "c")
    tools.write_folder(tmp_path / "d" / "imdb")
    for place in ("b", "c", "d", "c/aclImdb", "a/aclImdb.tar.gz"):
        same(imdb.load_encoded(tmp_path / place), expected)
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "b"))
    same(imdb.load_encoded(), expected)
    monkeypatch.delenv("FASTRNN_DATA")
    tools.write_archive(cache.cache_dir() / "aclImdb_v1.tar.gz")
    assert imdb.locate().path == cache.cache_dir() / "aclImdb_v1.tar.gz"


def test_load_reviews(tmp_path):
    tools.write_archive(tmp_path / "aclImdb.tar.gz")
    texts, labels = imdb.load_reviews("train", tmp_path)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert texts[1] == "Bad film.  Really bad!"
    assert imdb.load_reviews("test", tmp_path)[0][3:] == tools.in_order("test/pos")
    with pytest.raises(ValueError, match="split: expected 'train' or 'test'"):
        imdb.load_reviews("both", tmp_path)


# ---------------------------------------------------------------- bad archives


def truncated(tmp_path):
    path = tools.write_archive(tmp_path / "aclImdb.tar.gz", {**tools.members(), "aclImdb/noise": os.urandom(60_000)})
    path.write_bytes(path.read_bytes()[:-3000])


def truncated_inside(tmp_path):
    whole = gzip.decompress(tools.write_archive(tmp_path / "aclImdb.tar.gz").read_bytes())
    (tmp_path / "aclImdb.tar.gz").write_bytes(gzip.compress(whole[:4000]))


def not_gzip(tmp_path):
    (tmp_path / "aclImdb.tar.gz").write_bytes(b"<html>404</html>" * 100)


def gzip_of_something(tmp_path):
    (tmp_path / "aclImdb.tar.gz").write_bytes(gzip.compress(b"<html>404</html>" * 100))


def flipped(tmp_path):
    path = tools.write_archive(tmp_path / "aclImdb.tar.gz", {**tools.members(), "aclImdb/noise": os.urandom(60_000)})
    data = bytearray(path.read_bytes())
    data[-30_000] ^= 255
    path.write_bytes(data)


def one_missing(tmp_path):
    files = tools.members()
    del files["aclImdb/test/pos/10_7.txt"]
    tools.write_archive(tmp_path / "aclImdb.tar.gz", files)


def one_too_many(tmp_path):
    tools.write_archive(tmp_path / "aclImdb.tar.gz", {**tools.members(), "aclImdb/test/pos/11_7.txt": b"x"})


def climbing(tmp_path):
    tools.write_archive(tmp_path / "aclImdb.tar.gz", {**tools.members(), "aclImdb/../../evil.txt": b"x"})


def absolute(tmp_path):
    tools.write_archive(tmp_path / "aclImdb.tar.gz", {**tools.members(), f"{tmp_path}/evil.txt": b"x"})


def climbing_long(tmp_path):
    tools.write_archive(tmp_path / "aclImdb.tar.gz", {f"aclImdb/{'y' * 120}/../../../evil.txt": b"x"})


def huge(tmp_path):
    tools.write_archive(
        tmp_path / "aclImdb.tar.gz", {"aclImdb/train/pos/0_9.txt": b" " * (archive._LARGEST_REVIEW + 1)}
    )


def folder_incomplete(tmp_path):
    (tools.write_folder(tmp_path) / "train" / "neg" / "2_7.txt").unlink()


def folder_without_test(tmp_path):
    root = tools.write_folder(tmp_path)
    (root / "test").rename(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "cut short"),
        (truncated_inside, "cut short"),
        (not_gzip, "expected a gzip file"),
        (gzip_of_something, "damaged header|expected a tar archive"),
        (flipped, "expected a gzip file"),
        (one_missing, "expected 3 reviews in aclImdb/test/pos, got 2"),
        (one_too_many, "expected 3 reviews in aclImdb/test/pos, got 4"),
        (climbing, "member names inside aclImdb/"),
        (absolute, "member names inside aclImdb/"),
        (climbing_long, "member names inside aclImdb/"),
        (huge, "expected reviews below"),
        (folder_incomplete, "expected 3 reviews in aclImdb/train/neg, got 2"),
        (folder_without_test, "cannot be read"),
    ],
)
def test_bad_corpus_is_one_clear_error(tmp_path, monkeypatch, damage, words):
    home = tmp_path / "data"
    home.mkdir()
    damage(home)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=words) as caught:
        imdb.load_encoded(home)
    assert not isinstance(caught.value, DatasetUnavailable) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before  # nothing unpacked, nothing cached
    monkeypatch.setenv("FASTRNN_DATA", str(home))
    with pytest.raises(DatasetError, match=words):
        datasets.load("auto")  # a damaged corpus is not a missing one


# ---------------------------------------------------------------- cache


def test_cache_is_used_checked_and_rebuilt(tmp_path, monkeypatch):
    source = tools.write_archive(tmp_path / "aclImdb.tar.gz")
    expected = imdb.load_encoded(tmp_path)
    kept = cache.encoded_path(source)
    assert kept.is_file() and not list(kept.parent.glob("*.part"))
    real = archive.read_archive
    monkeypatch.setattr(archive, "read_archive", lambda path: pytest.fail("read again instead of from the cache"))
    same(imdb.load_encoded(tmp_path), expected)
    calls = []
    monkeypatch.setattr(archive, "read_archive", lambda path: calls.append(path) or real(path))
    good = kept.read_bytes()
    for bad in (b"", b"garbage", good[: len(good) // 2], good[:2000] + b"\xff\xff\xff" + good[2003:]):
        kept.write_bytes(bad)
        same(imdb.load_encoded(tmp_path), expected)
        assert len(calls) == 1
        calls.clear()
    assert cache.load_encoded(source, archive.fingerprint(source)) is not None
    tools.write_archive(source, {**tools.members(), "aclImdb/train/neg/2_7.txt": b"changed words"})
    assert "changed" in imdb.load_encoded(tmp_path).vocabulary
    assert len(calls) == 1 and list(kept.parent.glob("*.npz")) == [kept]


def test_cached_nonsense_is_rebuilt(tmp_path):
    source = tools.write_archive(tmp_path / "aclImdb.tar.gz")
    expected = imdb.load_encoded(tmp_path)
    state = archive.fingerprint(source)
    outside = expected.train.tokens.copy()
    outside[0] = 10_000
    for change in ({"train_tokens": outside}, {"test_labels": np.zeros(2, np.int64)}, {"train_offsets": np.zeros(3)}):
        with np.load(cache.encoded_path(source)) as file:
            content = {key: file[key] for key in file.files}
        np.savez(cache.encoded_path(source), **{**content, **change})
        assert cache.load_encoded(source, state) is None
        same(imdb.load_encoded(tmp_path), expected)


def test_unwritable_cache_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "file" / "cache"))
    tools.write_archive(tmp_path / "aclImdb.tar.gz")
    assert len(imdb.load_encoded(tmp_path).train) == 6


# ---------------------------------------------------------------- Keras's npz and load_data

TRAIN = [[1, 2, 3], [4, 1], [5, 5, 2, 1, 3, 2], [2], [3, 4, 5, 6]]
TEST = [[2, 2], [1, 6, 3], [4], [5, 1, 1, 2, 2], [6, 3]]


def keras_load(train, test, num_words=None, skip_top=0, maxlen=None, seed=113, start_char=1, oov_char=2, index_from=3):
    """The documented behaviour of keras.datasets.imdb.load_data, element by element."""
    rng = np.random.RandomState(seed)
    halves = []
    for rows in (train, test):
        order = np.arange(len(rows))
        rng.shuffle(order)
        shifted = [([] if start_char is None else [start_char]) + [w + index_from for w in rows[i]] for i in order]
        pairs = [(row, int(i) % 2) for row, i in zip(shifted, order, strict=True)]
        halves.append([p for p in pairs if not maxlen or len(p[0]) < maxlen])
    top = num_words or max(max(row) for half in halves for row, _ in half)
    out = []
    for half in halves:
        kept = []
        for row, _ in half:
            if oov_char is None:
                kept.append([w for w in row if skip_top <= w < top])
            else:
                kept.append([w if skip_top <= w < top else oov_char for w in row])
        out.append((kept, [label for _, label in half]))
    return out


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_words": 7},
        {"num_words": 7, "skip_top": 5, "seed": 3},
        {"maxlen": 4},
        {"start_char": None},
        {"start_char": None, "index_from": 0, "num_words": 4},
        {"oov_char": None, "num_words": 6},
        {"oov_char": 0, "skip_top": 2, "start_char": 9, "index_from": 1},
    ],
)
def test_load_data_is_keras(tmp_path, options):
    path = tools.write_npz(tmp_path / "keras" / "datasets" / "imdb.npz", TRAIN, TEST)
    for (x, y), (rows, labels) in zip(imdb.load_data(**options), keras_load(TRAIN, TEST, **options), strict=True):
        assert x.dtype == object and x.tolist() == rows and all(type(row) is list for row in x)
        assert y.tolist() == labels
    again = imdb.load_data(str(path), **options)
    assert again[0][0].tolist() == keras_load(TRAIN, TEST, **options)[0][0]


def test_load_data_skips_words_only_the_test_half_has(tmp_path):
    source = tools.write_archive(tmp_path / "aclImdb.tar.gz")
    _, (x_test, y_test) = imdb.load_data(str(source), start_char=None, index_from=0)
    lengths = dict(zip([tuple(row) for row in x_test], y_test.tolist(), strict=True))
    assert sorted(len(row) for row in lengths) == [2, 2, 2, 3, 3, 4]  # "an unseen" and "ever" are gone
    _, (x_test, _) = imdb.load_data(str(source), num_words=5)
    assert all(row[0] == 1 and set(row[1:]) <= {2, 4} for row in x_test)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_words": 0}, ValueError, "num_words: expected >= 1, got 0"),
        ({"num_words": 2.5}, TypeError, "num_words"),
        ({"skip_top": -1}, ValueError, "skip_top"),
        ({"skip_top": None}, TypeError, "skip_top: expected an integer, got None"),
        ({"maxlen": 1}, ValueError, "maxlen: expected more than the shortest review"),
        ({"seed": "x"}, TypeError, "seed"),
        ({"index_from": True}, TypeError, "index_from"),
        ({"oov_char": -1}, ValueError, "oov_char"),
    ],
)
def test_load_data_refuses(tmp_path, options, error, words):
    path = tools.write_npz(tmp_path / "imdb.npz", TRAIN, TEST)
    with pytest.raises(error, match=words):
        imdb.load_data(str(path), **options)


def test_word_index_and_what_needs_it(tmp_path):
    home = tmp_path / "keras" / "datasets"
    tools.write_npz(home / "imdb.npz", TRAIN, TEST)
    assert len(imdb.load_data()[0][0]) == 5
    with pytest.raises(DatasetUnavailable, match="no network"):
        imdb.get_word_index()  # ranks alone have no words
    with pytest.raises(DatasetUnavailable, match="no network"):
        imdb.load_reviews()
    tools.write_npz(home / "imdb.npz", TRAIN, TEST, words=list("abcdef"))
    assert imdb.get_word_index() == {c: i for i, c in enumerate("abcdef", start=1)}
    assert imdb.get_word_index(str(home / "imdb_word_index.json"))["f"] == 6
    assert datasets.load("auto").name == "imdb"
    for bad in ("[]", '{"a": 1, "b": 1}', '{"a": "x"}', "{", '{"a": 0}'):
        (home / "imdb_word_index.json").write_text(bad)
        with pytest.raises(DatasetError, match=r"imdb_word_index\.json"):
            imdb.get_word_index()


class _Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def hostile_npz(path, make):
    rows = np.empty(1, dtype=object)
    rows[0] = make
    np.savez(path, x_train=rows, y_train=np.zeros(1, np.int64), x_test=rows, y_test=np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_Evil(), "asks for (posix|nt)"),
        ([_Evil()], "asks for"),
        ("text", "lists was expected"),
        ([1.5], "integers were expected"),
        ([0], "word ranks from 1"),
        ([2**40], "bounds|large|int32"),
    ],
)
def test_hostile_npz(tmp_path, make, words):
    hostile_npz(tmp_path / "imdb.npz", make)
    with pytest.raises(DatasetError, match=words):
        imdb.load_data(str(tmp_path / "imdb.npz"))
    assert not (tmp_path / "evil").exists()


def test_foreign_npz(tmp_path):
    path = tmp_path / "imdb.npz"
    for content in (b"", b"PK\x03\x04nothing", pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"expected Keras's imdb\.npz"):
            imdb.load_data(str(path))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x_train.npy", b"not an array")
    with pytest.raises(DatasetError, match=r"expected Keras's imdb\.npz"):
        imdb.load_data(str(path))
    tools.write_npz(path, TRAIN, TEST)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=r"expected Keras's imdb\.npz"):
        imdb.load_data(str(path))


# ---------------------------------------------------------------- nothing there


def test_missing_corpus(tmp_path, monkeypatch):
    with pytest.raises(DatasetUnavailable, match="no network") as caught:
        imdb.load_encoded()
    for part in (imdb.URL, imdb.SHA256, str(tmp_path / "cache" / "aclImdb_v1.tar.gz"), "FASTRNN_DATA"):
        assert part in str(caught.value)
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetUnavailable, match=r"FASTRNN_DATA \(now .*nowhere, where no usable corpus is\)"):
        datasets.load("imdb")
    with pytest.raises(DatasetUnavailable, match="FASTRNN_DATA"):
        imdb.load_encoded(fetch=False)
    corpus = datasets.load("auto")
    assert (corpus.name, corpus.title) == ("sample", "generated sample")
    assert "generated sample" in corpus.warning and "not real reviews" in corpus.warning
    assert datasets.load("sample").warning is None
    with pytest.raises(DatasetError, match="data_dir: expected a folder with"):
        datasets.load("auto", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="name: expected one of auto, imdb, sample, got 'mnist'"):
        datasets.load("mnist")


# ---------------------------------------------------------------- download

FETCH = download.fetch  # before the fixture replaces it


@pytest.fixture
def server(tmp_path):
    """A local web server; what it answers is set by the test."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status, body, length = 200, b"", None

        def do_GET(self):
            self.send_response(self.status)
            self.send_header("Content-Length", str(self.length or len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)

        def log_message(self, *_): ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield Handler, f"http://127.0.0.1:{running.server_port}/aclImdb_v1.tar.gz"
        running.shutdown()


@pytest.fixture
def direct(monkeypatch):
    pytest.importorskip("pooch")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "fetch", FETCH)


def test_download(tmp_path, monkeypatch, server, direct):
    handler, url = server
    handler.body = tools.write_archive(tmp_path / "served.tar.gz").read_bytes()
    monkeypatch.setattr(imdb, "URL", url)
    monkeypatch.setattr(imdb, "SHA256", hashlib.sha256(handler.body).hexdigest())
    expected = imdb.load_encoded(tmp_path / "served.tar.gz")
    same(imdb.load_encoded(), expected)
    assert (tmp_path / "cache" / "aclImdb_v1.tar.gz").read_bytes() == handler.body
    handler.status = 500  # not asked again
    assert imdb.locate().path == tmp_path / "cache" / "aclImdb_v1.tar.gz"


@pytest.mark.parametrize(
    ("status", "length", "words"),
    [(200, None, "not the published file"), (404, None, "server answered 404"), (200, 10**6, "while downloading")],
)
def test_failed_download_leaves_nothing(tmp_path, server, direct, status, length, words):
    handler, url = server
    handler.status, handler.length, handler.body = status, length, b"another file"
    target = tmp_path / "cache" / "aclImdb_v1.tar.gz"
    with pytest.raises(DatasetUnavailable, match=words) as caught:
        download.fetch(url, "0" * 64, target)
    assert url in str(caught.value) and str(target) in str(caught.value) and "\n" not in str(caught.value)
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


def test_download_into_a_bad_place(tmp_path, server, direct):
    handler, url = server
    handler.body = b"x"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetUnavailable, match="Error while downloading"):
        download.fetch(url, hashlib.sha256(b"x").hexdigest(), tmp_path / "file" / "aclImdb_v1.tar.gz")


def test_hosts_that_do_not_answer_cost_little(tmp_path, monkeypatch, direct):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and says nothing
        silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        start = time.monotonic()
        with pytest.raises(DatasetUnavailable, match=r"no answer within 0\.5 seconds"):
            download.fetch(silent_url, "0" * 64, tmp_path / "x")
        monkeypatch.setenv("http_proxy", silent_url)
        with pytest.raises(DatasetUnavailable, match="no answer"):
            download.fetch("http://example.invalid/x", "0" * 64, tmp_path / "x")
        monkeypatch.delenv("http_proxy")

        def hang(*_args, **_more):
            time.sleep(3)
            raise OSError

        monkeypatch.setattr(socket, "getaddrinfo", hang)  # a name server that hangs
        with pytest.raises(DatasetUnavailable, match="no answer"):
            download.fetch("http://example.invalid/x", "0" * 64, tmp_path / "x")
        assert time.monotonic() - start < 2.9
    monkeypatch.undo()


def test_refused_connection(tmp_path, direct):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
    with pytest.raises(DatasetUnavailable, match="no connection"):
        download.fetch(url, "0" * 64, tmp_path / "x")


# ---------------------------------------------------------------- the real thing


@pytest.mark.skipif(not REAL, reason="FASTRNN_DATA is not set")
def test_real_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "REVIEWS_PER_FOLDER", 12_500)
    monkeypatch.setenv("FASTRNN_DATA", str(Path(REAL)))
    start = time.monotonic()
    data = imdb.load_encoded()
    first = time.monotonic() - start
    start = time.monotonic()
    again = imdb.load_encoded()
    second = time.monotonic() - start
    np.testing.assert_array_equal(again.train.tokens, data.train.tokens)
    assert len(data.train) == len(data.test) == 25_000
    assert data.train_labels.sum() == data.test_labels.sum() == 12_500
    assert len(data.vocabulary) == 88_582  # Keras's tokens without the "br" of line breaks
    assert data.vocabulary.words[:5] == ("the", "and", "a", "of", "to")
    assert 233 < data.train.lengths.mean() < 235
    assert first < 30 and second < 5  # far above what it takes; catches a wrong turn, not a busy machine
    (x_train, y_train), (x_test, _) = imdb.load_data(num_words=10_000)
    assert max(map(max, x_train)) == 9_999 == max(map(max, x_test))
    assert 0.48 < y_train[:5000].mean() < 0.52  # shuffled
