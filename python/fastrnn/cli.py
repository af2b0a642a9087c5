"""The `fastrnn` command: options in, sentences and tables out. click and rich are imported here and nowhere else.

Every failure ends as one line "Error: ..." on standard error, with exit code 2 for a wrong call, 130 for Ctrl-C and
1 for anything else. FASTRNN_DEBUG=1 shows the traceback as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

import click
from rich import box
from rich.console import Console
from rich.table import Table

from . import reports, zoo
from .datasets import NAMES, Corpus, load
from .datasets.text import TextEncoder
from .experiment import Interrupted, Result, open_trained, run
from .saving import check_suffix

COMPARED = ("basic", "stacked", "bidirectional", "hybrid")
_Command = Callable[..., Any]
_EPILOG = "Measures without a default here depend on the model and the corpus; each run says which it uses."


def _out() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 80)  # figures cut off to fit a narrow window would be of no use
    return console


def _warn(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"Warning: {message}", style="yellow", markup=False)


def _options(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_json = click.option("--json", "json_file", type=click.Path(), metavar="FILE", help="Write the figures here as JSON.")
_threads = click.option("--threads", type=int, help="Threads to compute with. [default: all cores]")
_limit = click.option("--limit", type=int, metavar="N", help="Use N reviews of each half only, for a quick try.")
_data_dir = click.option("--data-dir", metavar="DIR", help="Folder with the IMDb corpus. [default: $FASTRNN_DATA]")
_training = _options(
    click.option("--cell", type=click.Choice(zoo.CELLS), default="lstm", show_default=True, help="Recurrent cell."),
    click.option("--dataset", type=click.Choice(NAMES), default="auto", show_default=True,
                 help="auto: IMDb if it is here or can be downloaded, otherwise the generated sample."),
    _data_dir,
    click.option("--epochs", type=int, help="Passes over the training reviews at most."),
    click.option("--batch-size", type=int, help="Reviews per step."),
    click.option("--units", type=int, help="Units of each recurrent layer."),
    click.option("--embedding", type=int, help="Length of a word's vector."),
    click.option("--vocabulary", type=int, help="Number of word ids."),
    click.option("--maxlen", type=int, help="Words of a review that are read, its last ones."),
    click.option("--dropout", type=float, help="Share of values dropped while training."),
    click.option("--learning-rate", type=float, help="Step size of the optimizer."),
    click.option("--optimizer", type=click.Choice(zoo.OPTIMIZERS), help="How weights are updated.  [default: adam]"),
    click.option("--validation-split", type=float, help="Share of the training reviews held out to choose the epoch."),
    click.option("--patience", type=int, help="Stop after so many epochs without a better validation accuracy."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Of all randomness."),
    _limit,
    _threads,
    click.option("--quiet", is_flag=True, help="Print the result only."),
    _json,
)  # fmt: skip


def _set_threads(threads: int | None) -> None:
    from . import runtime  # here, so that a wrong FASTRNN_ISA does not cost a download

    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"[fastrnn] --threads: expected >= 1, got {threads}")
    runtime.set_num_threads(threads)


def _corpus(name: str, data_dir: str | None, limit: int | None, seed: int = 0) -> Corpus:
    corpus = load(name, data_dir)
    if corpus.warning:
        _warn(corpus.warning)
    return corpus if limit is None else corpus.limited(limit, seed)


def _figures(command: str, **figures: Any) -> dict[str, Any]:
    from . import __version__, runtime

    return {"command": command, "version": __version__, **figures, "runtime": runtime.info()}


def _table(results: Sequence[Result]) -> Table:
    table = Table(
        title=reports.title(results),
        caption=reports.GAP_NOTE,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for i, column in enumerate(reports.COLUMNS):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for result in results:
        table.add_row(*reports.row(result))
    return table


def _heading(model: str, cell: str, corpus: Corpus, settings: zoo.Settings) -> str:
    words = min(settings.vocabulary, len(corpus.data.vocabulary) + TextEncoder.INDEX_FROM + 1)
    halves = f"{len(corpus.data.train_labels):,} + {len(corpus.data.test_labels):,} reviews"
    return (
        f"{model} ({cell.upper()}) on {corpus.title}, {halves}: {words:,} words, "
        f"{settings.maxlen} tokens, {settings.units} units, epochs: at most {settings.epochs}"
    )


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        # here: in a source tree the version is the core's, which a wrong FASTRNN_ISA keeps from loading
        from . import __version__

        click.echo(f"fastrnn {__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version,
              help="Show the version and exit.")  # fmt: skip
def cli() -> None:
    """Recurrent networks on the CPU: text classifiers trained on IMDb."""


@cli.command(epilog=_EPILOG)
@click.argument("model", type=click.Choice(zoo.MODELS))
@_training
@click.option("--output", metavar="MODEL", help="File for the trained model. [default: <model>-<cell>.safetensors]")
def train(model: str, cell: str, dataset: str, data_dir: str | None, seed: int, limit: int | None, threads: int | None,
          quiet: bool, json_file: str | None, output: str | None, **given: Any) -> None:  # fmt: skip
    """Train one model and test it once."""
    zoo.settings(model, **given)  # a wrong option shall not cost a download
    path = reports.can_write(check_suffix("train", output or f"{model}-{cell}.safetensors", "--output"), "--output")
    if json_file:
        reports.can_write(json_file, "--json")
    _set_threads(threads)
    corpus = _corpus(dataset, data_dir, limit, seed)
    settings = zoo.settings(model, corpus.name, **given)
    if not quiet:
        _out().print(_heading(model, cell, corpus, settings), style="bold", markup=False)
    _, result = run(model, cell, corpus, settings, seed=seed, output=path, verbose=0 if quiet else "auto")
    if not quiet:
        _out().print(_table([result]))
        _out().print(f"Best of {len(result.epoch_seconds)} epochs: {result.best_epoch}. Saved in {path}.", markup=False)
    click.echo(f"Test accuracy on {corpus.title}: {result.test_accuracy:.4f}")
    if json_file:
        reports.write_json(json_file, _figures("train", output=str(path), limit=limit, **result.as_dict()))


def _model_names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    for name in names:
        if name not in zoo.MODELS:
            raise click.BadParameter(f"expected some of {', '.join(zoo.MODELS)}, got {name!r}")
    if not names:
        raise click.BadParameter("expected at least one model")
    return names


@cli.command(epilog=_EPILOG)
@_training
@click.option(
    "--models",
    callback=_model_names,
    default=",".join(COMPARED),
    show_default=True,
    metavar="A,B,...",
    help="Which models, also attention.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(),
    metavar="FILE",
    help="PNG with the learning curves. [default: compare-<cell>.png where matplotlib is installed]",
)
def compare(models: tuple[str, ...], plot_file: str | None, cell: str, dataset: str, data_dir: str | None,
            seed: int, limit: int | None, threads: int | None, quiet: bool, json_file: str | None,
            **given: Any) -> None:  # fmt: skip
    """Train several models and compare them."""
    for name in models:
        zoo.settings(name, **given)
    if plot_file and not reports.can_plot():
        raise ImportError(reports.PLOT_HINT)
    picture = reports.can_write(plot_file or f"compare-{cell}.png", "--plot")
    if json_file:
        reports.can_write(json_file, "--json")
    _set_threads(threads)
    corpus = _corpus(dataset, data_dir, limit, seed)
    results: list[Result] = []
    try:
        for name in models:
            settings = zoo.settings(name, corpus.name, **given)
            if not quiet:
                _out().print(_heading(name, cell, corpus, settings), style="bold", markup=False)
            results.append(run(name, cell, corpus, settings, seed=seed, verbose=0 if quiet else "auto")[1])
    except Interrupted:
        if results:
            _out().print(_table(results))
        done = ", ".join(result.model for result in results) or "none"
        raise KeyboardInterrupt(f"Interrupted; models compared until then: {done}.") from None
    _out().print(_table(results))
    if reports.can_plot():
        reports.plot(results, picture)
        if not quiet:
            _out().print(f"Learning curves saved in {picture}.", markup=False)
    elif not quiet:
        _out().print(reports.PLOT_HINT, markup=False)
    if json_file:
        by_name = {
            key: {result.model: getattr(result, key) for result in results}
            for key in ("test_accuracy", "epoch_seconds", "parameters", "gap")
        }
        reports.write_json(
            json_file,
            _figures("compare", cell=cell, dataset=corpus.name, dataset_title=corpus.title, limit=limit,
                     plot=str(picture) if reports.can_plot() else None, **by_name,
                     results=[result.as_dict() for result in results]),
        )  # fmt: skip


@cli.command()
@click.argument("model", type=click.Path())
@click.option(
    "--dataset",
    type=click.Choice(NAMES),
    default="auto",
    help="Whose test half to use. [default: that of the corpus the model was trained on]",
)
@_options(_data_dir, _limit, _threads, _json)
def evaluate(model: str, dataset: str, data_dir: str | None, limit: int | None, threads: int | None,
             json_file: str | None) -> None:  # fmt: skip
    """Test accuracy of a saved model."""
    if json_file:
        reports.can_write(json_file, "--json")
    _set_threads(threads)
    trained = open_trained(model)
    # auto means the model's own corpus here: falling back on another one would answer another question.
    name = trained.about["dataset"] if dataset == "auto" else dataset
    corpus = _corpus(name, data_dir, limit, trained.about["seed"])  # the reviews that its training tested
    if corpus.name != trained.about["dataset"]:
        _warn(f"this model was trained on another corpus ({trained.about['dataset_title']}).")
    loss, accuracy = trained.evaluate(corpus)
    count = len(corpus.data.test_labels)
    click.echo(f"Test accuracy on {corpus.title} ({count:,} reviews): {accuracy:.4f}, loss {loss:.4f}")
    if json_file:
        reports.write_json(
            json_file,
            _figures("evaluate", model_file=str(model), dataset=corpus.name, dataset_title=corpus.title, limit=limit,
                     test_reviews=count, test_accuracy=accuracy, test_loss=loss, trained=trained.about),
        )  # fmt: skip


def _texts(arguments: Sequence[str], file: str | None) -> list[str]:
    """What to judge: the arguments, or one text per line of a file or of standard input ("-")."""
    if bool(arguments) == bool(file):
        raise click.UsageError('expected either texts or --file FILE ("-" for standard input)')
    if file or list(arguments) == ["-"]:
        with click.open_file(file or "-", encoding="utf-8", errors="replace") as stream:
            texts = [line.strip() for line in stream if line.strip()]
        if not texts:
            raise ValueError("[predict] texts: expected one text per line, got none")
        return texts
    return [text.encode("utf-8", "replace").decode("utf-8") for text in arguments]  # undecodable bytes become "?"


@cli.command()
@click.argument("model", type=click.Path())
@click.argument("texts", nargs=-1)
@click.option("--file", type=click.Path(), help='One text per line; "-" is standard input.')
@_options(_threads, _json)
def predict(model: str, texts: tuple[str, ...], file: str | None, threads: int | None, json_file: str | None) -> None:
    """Judge texts with a saved model: positive or negative."""
    if json_file:
        reports.can_write(json_file, "--json")
    _set_threads(threads)
    given = _texts(texts, file)
    trained = open_trained(model)
    if trained.about["dataset"] != "imdb":
        _warn(f"this model was trained on the {trained.about['dataset_title']}, not on real reviews.")
    predictions = [
        {"text": text, "label": "positive" if probability >= 0.5 else "negative", "probability": float(probability)}
        for text, probability in zip(given, trained.probabilities(given), strict=True)
    ]
    for item in predictions:
        text = " ".join(str(item["text"]).split())
        click.echo(f"{item['label']}  {item['probability']:.4f}  {text if len(text) <= 70 else text[:69] + '…'}")
    if json_file:
        reports.write_json(
            json_file,
            _figures("predict", model_file=str(model), dataset=trained.about["dataset"],
                     dataset_title=trained.about["dataset_title"], predictions=predictions),
        )  # fmt: skip


@cli.command()
@_json
def info(json_file: str | None) -> None:
    """Version, instruction sets, threads, compiler."""
    from . import runtime

    if json_file:
        reports.can_write(json_file, "--json")
    facts = runtime.info()
    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        table.add_row(key.replace("_", " "), shown)
    _out().print(table)
    if json_file:
        reports.write_json(json_file, {"command": "info", **facts})


def _fail(message: str, code: int) -> NoReturn:
    line = " ".join(message.split())
    click.echo(line if code == 130 else f"Error: {line}", err=True)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a review may hold what the terminal's encoding does not
            stream.reconfigure(errors="replace")
    try:
        code = cli.main(args=None if arguments is None else list(arguments), prog_name="fastrnn", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        _fail(error.format_message() + hint, error.exit_code)
    except Interrupted as stopped:
        _fail(str(stopped), 130)
    except (KeyboardInterrupt, click.Abort) as stopped:
        _fail(str(stopped) or "Interrupted.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        sys.exit(1)
    except Exception as error:
        if os.environ.get("FASTRNN_DEBUG"):
            raise
        known = isinstance(error, (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError))
        text = str(error) or type(error).__name__
        _fail(text if known else f"internal error, {type(error).__name__}: {text} (FASTRNN_DEBUG=1 shows where)", 1)
    sys.exit(code if isinstance(code, int) else 0)
