"""The command line: what it prints, writes and refuses, in process; Ctrl-C and piping in a process of its own."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import corpus_tools as tools

pytest.importorskip("click")
pytest.importorskip("rich")

from fastrnn import cli, reports
from fastrnn.datasets import DatasetUnavailable, archive, download
from fastrnn.experiment import open_trained
from fastrnn.models import load_model

TINY = ["--units", "4", "--embedding", "4", "--epochs", "1"]
QUICK = ["--dataset", "sample", "--limit", "60", *TINY]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty machine: no corpus, no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    monkeypatch.delenv("FASTRNN_DEBUG", raising=False)
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def refuse(url, sha256, target):
        raise DatasetUnavailable(f"[datasets.imdb] download: no connection (URL {url})")

    monkeypatch.setattr(download, "fetch", refuse)


@pytest.fixture
def fastrnn(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder with a tiny IMDb."""
    monkeypatch.setattr(archive, "REVIEWS_PER_FOLDER", tools.COUNT)
    tools.write_archive(tmp_path / "data" / "imdb" / "aclImdb.tar.gz")
    return tmp_path / "data"


@pytest.fixture
def model(fastrnn, tmp_path):
    assert fastrnn("train", "basic", *QUICK, "--quiet", "--output", tmp_path / "m.safetensors")[0] == 0
    return tmp_path / "m.safetensors"


def one_line(err):
    assert err.startswith("Error: ") and err.count("\n") == 1 and "Traceback" not in err, err
    return err


def test_train(fastrnn, tmp_path):
    code, out, err = fastrnn("train", "hybrid", "--cell", "gru", *QUICK, "--json", "figures.json")
    assert (code, err) == (0, "")
    assert "hybrid (GRU) on generated sample, 60 + 60 reviews" in out
    assert "GRU hybrid on generated sample" in out and "Saved in hybrid-gru.safetensors" in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert f"Test accuracy on generated sample: {figures['test_accuracy']:.4f}" in out
    assert figures["command"] == "train" and figures["dataset"] == "sample" and figures["limit"] == 60
    assert len(figures["epoch_seconds"]) == 1 and figures["settings"]["units"] == 4
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(figures["history"])
    assert open_trained("hybrid-gru.safetensors").about["test_accuracy"] == figures["test_accuracy"]


def test_quiet(fastrnn, tmp_path):
    code, out, err = fastrnn("train", "attention", "--cell", "rnn", *QUICK, "--quiet")
    assert (
        (code, err) == (0, "") and len(out.splitlines()) == 1 and out.startswith("Test accuracy on generated sample: ")
    )


def test_auto_says_that_it_substitutes(fastrnn, tmp_path):
    code, out, err = fastrnn("train", "basic", "--limit", "60", *TINY, "--json", "f.json", "--quiet")
    assert code == 0
    assert err.startswith("Warning: ") and "generated sample, not real reviews" in err and "no connection" in err
    assert "generated sample" in out
    assert json.loads((tmp_path / "f.json").read_text())["dataset"] == "sample"
    assert open_trained("basic-lstm.safetensors").about["dataset_title"] == "generated sample"


def test_imdb_never_substitutes(fastrnn, tmp_path, monkeypatch):
    code, out, err = fastrnn("train", "basic", "--dataset", "imdb", *TINY)
    assert (code, out) == (1, "") and "no connection" in one_line(err) and "FASTRNN_DATA" in err
    assert not (tmp_path / "basic-lstm.safetensors").exists()
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    (tmp_path / "aclImdb.tar.gz").write_bytes(b"broken")
    for dataset in ("imdb", "auto"):
        code, out, err = fastrnn("train", "basic", "--dataset", dataset, *TINY)
        assert (code, out) == (1, "") and "expected a gzip file" in one_line(err)


def test_imdb_is_found(fastrnn, corpus, monkeypatch):
    options = [*TINY, "--validation-split", "0.34", "--quiet"]
    assert fastrnn("train", "basic", "--data-dir", corpus, *options)[1].startswith("Test accuracy on IMDb: ")
    monkeypatch.setenv("FASTRNN_DATA", str(corpus))
    code, out, err = fastrnn("train", "basic", *options, "--output", "i.safetensors")
    assert (code, err) == (0, "") and "on IMDb" in out
    code, out, err = fastrnn("evaluate", "i.safetensors", "--json", "e.json")
    assert (code, err) == (0, "") and out.startswith("Test accuracy on IMDb (6 reviews): ")
    assert json.load(open("e.json"))["dataset"] == "imdb"
    code, out, err = fastrnn("predict", "i.safetensors", "a good film")
    assert (code, err) == (0, "")
    monkeypatch.delenv("FASTRNN_DATA")
    code, out, err = fastrnn("evaluate", "i.safetensors")  # the sample would answer another question
    assert (code, out) == (1, "") and "no connection" in one_line(err)
    code, out, err = fastrnn("evaluate", "i.safetensors", "--dataset", "sample", "--limit", "10")
    assert code == 0 and "trained on another corpus (IMDb)" in err and "on generated sample (10 reviews)" in out


def test_compare(fastrnn, tmp_path):
    code, out, err = fastrnn("compare", *QUICK, "--json", "c.json", "--plot", "curves.png")
    assert (code, err) == (0, "")
    names = ["basic", "stacked", "bidirectional", "hybrid"]
    lines = [line.split() for line in out.splitlines()]
    rows = [line for line in lines if len(line) == len(reports.COLUMNS) and line[0] in names]
    assert [row[0] for row in rows] == names
    assert list(reports.COLUMNS) in lines and "LSTM models on generated sample" in out
    figures = json.loads((tmp_path / "c.json").read_text())
    assert list(figures["test_accuracy"]) == names and figures["dataset"] == "sample"
    for row, result in zip(rows, figures["results"], strict=True):
        assert row[1] == f"{result['parameters']:,}" and row[6] == f"{result['test_accuracy']:.4f}"
        assert row[7] == f"{100 * (result['train_accuracy'] - result['validation_accuracy']):+.1f}"
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        assert "Learning curves saved in curves.png" in out


def test_compare_some_and_without_matplotlib(fastrnn, tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "can_plot", lambda: False)
    code, out, err = fastrnn("compare", *QUICK, "--models", "attention, basic")
    assert (code, err) == (0, "") and reports.PLOT_HINT in out and out.count(" on generated sample, ") == 2
    code, out, err = fastrnn("compare", *QUICK, "--plot", "x.png")
    assert (code, out) == (1, "") and reports.PLOT_HINT in one_line(err)
    code, out, err = fastrnn("compare", *QUICK, "--models", "basic,deep")
    assert (code, out) == (2, "") and "got 'deep'" in one_line(err)


def test_evaluate(fastrnn, model):
    code, out, err = fastrnn("evaluate", model, "--limit", "50", "--json", "e.json")
    assert (code, err) == (0, "") and out.startswith("Test accuracy on generated sample (50 reviews): ")
    figures = json.load(open("e.json"))
    assert 0 <= figures["test_accuracy"] <= 1 and figures["test_reviews"] == 50


def test_predict_from_everywhere(fastrnn, model, tmp_path, monkeypatch):
    texts = ["the acting was not dull [sic]", "it is [bold]dreadful[/bold]"]
    code, out, err = fastrnn("predict", model, *texts, "--json", "p.json")
    assert code == 0 and "trained on the generated sample, not on real reviews" in err
    lines = out.splitlines()
    assert len(lines) == 2 and "[sic]" in lines[0] and "[bold]dreadful[/bold]" in lines[1]
    figures = json.load(open("p.json"))
    for line, item, text in zip(lines, figures["predictions"], texts, strict=True):
        assert item["text"] == text and item["label"] == ("positive" if item["probability"] >= 0.5 else "negative")
        assert line == f"{item['label']}  {item['probability']:.4f}  {text}"
    (tmp_path / "reviews.txt").write_text("\n".join([texts[0], "", texts[1]]) + "\n")
    assert fastrnn("predict", model, "--file", "reviews.txt")[1] == out
    for arguments in (["-"], ["--file", "-"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
        assert fastrnn("predict", model, *arguments)[1] == out
    assert fastrnn("predict", model, "")[0] == 0  # an empty review is still a review
    assert fastrnn("predict", model, "w\udce9ird " * 200)[1].splitlines()[0].endswith("…")


def test_predict_without_texts(fastrnn, model, tmp_path):
    code, out, err = fastrnn("predict", model)
    assert (code, out) == (2, "") and "expected either texts or --file" in one_line(err)
    (tmp_path / "empty.txt").write_text("\n \n")
    code, out, err = fastrnn("predict", model, "--file", "empty.txt")
    assert (code, out) == (1, "") and "got none" in one_line(err)
    code, out, err = fastrnn("predict", model, "--file", "missing.txt")
    assert (code, out) == (1, "") and "missing.txt" in one_line(err)


def test_foreign_model_files(fastrnn, model, tmp_path):
    whole = model.read_bytes()
    for content in (b"", b"junk" * 50, whole[:100], whole[:-10]):
        (tmp_path / "bad.safetensors").write_bytes(content)
        for command in (["evaluate", "bad.safetensors"], ["predict", "bad.safetensors", "text"]):
            code, out, err = fastrnn(*command)
            assert (code, out) == (1, "") and one_line(err)
    code, out, err = fastrnn("evaluate", "nowhere.safetensors")
    assert (code, out) == (1, "") and "nowhere.safetensors" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "deep"], 2, "'deep' is not one of"),
        (["train", "basic", "--cell", "qrnn"], 2, "--cell"),
        (["train", "basic", "--epochs", "many"], 2, "'many' is not a valid integer"),
        (["train", "basic", "--epochs", "0"], 1, "epochs: expected >= 1, got 0"),
        (["train", "basic", "--units", "-3"], 1, "units: expected >= 1, got -3"),
        (["train", "basic", "--dropout", "1"], 1, "dropout: expected 0 <= dropout < 1"),
        (["train", "basic", "--dropout", "nan"], 1, "dropout"),
        (["train", "basic", "--learning-rate", "inf"], 1, "learning_rate"),
        (["train", "basic", "--validation-split", "1.5"], 1, "validation_split"),
        (["train", "basic", "--seed", "-1"], 2, "--seed"),
        (["train", "basic", "--dataset", "sample", "--limit", "2"], 1, "count: expected >= 4, got 2"),
        (["train", "basic", "--threads", "0"], 1, "--threads: expected >= 1, got 0"),
        (["train", "basic", "--output", "no/where.safetensors"], 1, "--output"),
        (["train", "basic", "--output", "."], 1, "expected a file"),
        (["train", "basic", "--output", "model.h5"], 1, "--output"),
        (["train", "basic", "--json", "no/where.json"], 1, "--json"),
        (["compare", "--plot", "no/where.png"], 1, "--plot"),
        (["compare", "--models", ","], 2, "at least one model"),
        (["train", "basic", "--data-dir", "nothing"], 1, "data_dir"),
        (["frobnicate"], 2, "frobnicate"),
        (["train"], 2, "Missing argument"),
    ],
)
def test_bad_calls_are_one_line_before_any_work(fastrnn, tmp_path, arguments, code, words):
    got, out, err = fastrnn(*arguments)
    assert (got, out) == (code, "") and words in one_line(err)
    assert not list(tmp_path.glob("*.safetensors"))


def test_unexpected_failures_are_one_line_too(fastrnn, monkeypatch):
    def broken(*arguments, **options):
        raise KeyError("a bug\nover two lines")

    monkeypatch.setattr(cli, "load", broken)
    code, out, err = fastrnn("train", "basic", *QUICK)
    assert (code, out) == (1, "") and "internal error, KeyError" in one_line(err) and "FASTRNN_DEBUG" in err
    monkeypatch.setenv("FASTRNN_DEBUG", "1")
    with pytest.raises(KeyError):
        cli.main(["train", "basic", *QUICK])


def test_help_and_version(fastrnn):
    for arguments in (["--help"], ["-h"], ["train", "--help"], ["compare", "-h"], ["predict", "-h"], ["info", "-h"]):
        code, out, err = fastrnn(*arguments)
        assert (code, err) == (0, "") and out.startswith("Usage: fastrnn")
    code, out, err = fastrnn("--version")
    assert (code, err) == (0, "") and out.startswith("fastrnn ")
    code, out, err = fastrnn()
    assert code == 2 and "Usage: fastrnn" in out + err


def test_info(fastrnn, tmp_path):
    pytest.importorskip("fastrnn.runtime")
    code, out, err = fastrnn("info", "--json", "i.json")
    figures = json.loads((tmp_path / "i.json").read_text())
    assert (code, err) == (0, "")
    assert figures["isa"] in figures["available_isas"] and figures["isa"] in out
    for key in ("version", "threads", "compiler", "numpy"):
        assert str(figures[key]) in out


def test_threads_are_set(fastrnn, model):
    runtime = pytest.importorskip("fastrnn.runtime")
    before = runtime.get_num_threads()
    try:
        assert fastrnn("predict", model, "text", "--threads", "1")[0] == 0
        assert runtime.info()["threads"] == 1
    finally:
        runtime.set_num_threads(before)


def spawn(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fastrnn", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_leaves_the_last_epoch(tmp_path):
    # what a shell starts behind `&` ignores the signal, and so would the process
    process = spawn("train", "basic", "--dataset", "sample", "--limit", "500", "--units", "4", "--embedding", "4",
                    "--epochs", "10000", "--patience", "10000", "--output", "m.safetensors",
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "m.safetensors").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.startswith("Interrupted after ") and err.count("\n") == 1 and "m.safetensors" in err
    epoch = err.split("the model of epoch ")[1].split()[0]
    assert load_model(tmp_path / "m.safetensors").extra["state"] == f"after epoch {epoch}"
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_closed_pipe_is_no_traceback():
    process = spawn("compare", "--help")
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=30)
    assert "Traceback" not in err and "BrokenPipe" not in err
