"""Fetches the published corpus once, with a checksum and a progress line. Where to and when is imdb.py's business."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from .errors import DatasetUnavailable

CONNECT_SECONDS = 5.0
"""What an unreachable host may cost in all: look-up, proxy, connection and first answer together."""
_READ_SECONDS = 30.0


class _Progress:
    """The little that pooch asks of a progress bar, on one line of standard error, and only on a terminal."""

    def __init__(self, name: str) -> None:
        self.total = 0.0
        self._name, self._done, self._start, self._shown = name, 0.0, time.monotonic(), 0.0
        self._live = sys.stderr.isatty()

    def update(self, amount: float) -> None:
        self._done += amount
        now = time.monotonic()
        if self._live and (now - self._shown > 0.2 or self._done >= self.total):
            self._shown = now
            speed = self._done / max(now - self._start, 1e-9)
            left = max(self.total - self._done, 0) / max(speed, 1e-9)
            done, total = min(self._done, self.total) / 1e6, self.total / 1e6
            sys.stderr.write(
                f"\r{self._name}: {done:6.1f} of {total:.1f} MB, {speed / 1e6:.1f} MB/s, {left:3.0f} s left "
            )
            sys.stderr.flush()

    def reset(self) -> None:
        self._done = 0.0

    def close(self) -> None:
        if self._live:
            sys.stderr.write("\n")


def reachable(url: str, seconds: float) -> str | None:
    """None if the server answers for this URL within the time, else why not, in a few words.

    Asked in a thread of its own: connect timeouts do not cover a name server or a proxy that hangs.
    """
    answer: list[str | None] = [f"no answer within {seconds:g} seconds"]

    def ask() -> None:
        import requests

        try:
            with requests.get(url, timeout=seconds, stream=True, headers={"Range": "bytes=0-0"}) as response:
                answer[0] = None if response.ok else f"the server answered {response.status_code} {response.reason}"
        except requests.exceptions.Timeout:
            pass
        except requests.exceptions.ProxyError:
            answer[0] = "the proxy refused the connection"
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            answer[0] = f"no connection ({type(error).__name__})"

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0]


def fetch(url: str, sha256: str, target: Path) -> Path:
    """Download `url` to `target`; the file appears there only when it is whole and its checksum is right.

    Raises DatasetUnavailable if the host cannot be reached, the folder not be written, or something else came.
    """
    where = f"URL {url}, sha256 {sha256}, to be put at {target}"
    try:
        import pooch  # type: ignore[import-untyped]
        import requests
    except ImportError as error:
        raise DatasetUnavailable(f"[datasets.imdb] download: {error.name} is not installed ({where})") from None
    reason = reachable(url, CONNECT_SECONDS)
    if reason is None:
        pooch.get_logger().setLevel("WARNING")
        progress = _Progress(target.name)
        downloader = pooch.HTTPDownloader(
            progressbar=progress, timeout=(CONNECT_SECONDS, _READ_SECONDS), chunk_size=1 << 16
        )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            pooch.retrieve(url, f"sha256:{sha256}", fname=target.name, path=target.parent, downloader=downloader)
            return target
        except ValueError:
            progress.close()
            reason = "what came is not the published file"
        except (requests.exceptions.RequestException, OSError) as error:
            reason = f"{type(error).__name__} while downloading"
        progress.close()
    raise DatasetUnavailable(f"[datasets.imdb] download: {reason} ({where})")
