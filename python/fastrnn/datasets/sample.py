"""A generated corpus of small film reviews whose labels depend on the ORDER of the words; no data file, no download.

It is not IMDb and says nothing about real reviews: it is there so that everything can be tried and tested anywhere.
One clause decides each review, and which one and with what sign is a matter of order: a negation turns the word it
stands before, of two clauses the one after "but" counts and the one after "although" does not, and a sentence at
the very beginning may turn the whole review round. Every word is about as frequent in both classes, so a bag of words
is left with little more than half of the answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .encoded import Encoded
from .text import Vocabulary, rank_words

TITLE = "generated sample"
TRAIN_SIZE, TEST_SIZE = 10_000, 2_000
SEED = 1997

_SUBJECTS = (
    "the plot", "the acting", "the script", "the music", "the ending", "the dialogue", "the camera work", "the story",
    "the leading man", "the whole cast", "the second half", "the first hour", "the humour", "the editing",
)  # fmt: skip
_VERBS = ("is", "was", "seemed", "felt", "looked")
_GOOD = (
    "wonderful", "brilliant", "moving", "clever", "superb", "charming", "gripping", "delightful", "fresh", "elegant",
)  # fmt: skip
_BAD = ("dreadful", "boring", "clumsy", "dull", "awful", "tedious", "shallow", "lifeless", "stale", "ugly")
_DEGREES = ("", "", "very", "quite", "really", "simply")
_NEGATIONS = ("not", "never", "hardly", "far from", "anything but", "by no means")
_FILLERS = (
    "we saw it on a rainy tuesday evening", "the cinema was half full", "my sister had chosen it",
    "it runs for about two hours", "the director has made three films before", "it was shot in the north of spain",
    "popcorn was sold out", "i had read the book as a child", "the story begins in a small town by the sea",
    "a young woman inherits an old hotel", "two brothers meet again after many years", "it takes place in one night",
    "somebody behind us talked all the time", "the poster shows a red car", "there is a dog in nearly every scene",
    "it is the second part of a series", "we went home by bus", "the subtitles were in french",
)  # fmt: skip
# (turned round, its twin that turns nothing): the pairs share nearly all their words.
_OPENINGS = (
    ("read everything below as its opposite", "read everything below as it stands"),
    ("my brother wrote this and he is always wrong", "my brother wrote this and he is always right"),
    ("the following is what i do mean the other way round", "the following is what i do mean in just this way"),
    ("do not believe a word of what comes now", "do believe every word of what comes now"),
)
# How two clauses are joined; D is the one that decides, O the other. Each joint occurs with D first and with D last.
_JOINTS = (
    "{O} but {D}", "{O} and yet {D}", "{O} . however , {D}", "although {O} , {D}", "even if {O} , {D}",
    "{D} although {O}", "{D} even if {O}", "{D} , and never mind that {O}", "never mind that {O} , {D}",
    "i had been told that {O} . instead {D}", "{D} . so it was wrong to tell me that {O}",
)  # fmt: skip
_CONTRAST, _NEGATED, _OPENED, _TURNED = 0.5, 0.25, 0.3, 0.5


class _Writer:
    """Draws everything from `random.random()`, whose sequence for a seed Python guarantees for all versions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, items: Sequence[str]) -> str:
        return items[int(self._random() * len(items))]

    def count(self, least: int, most: int) -> int:
        return least + int(self._random() * (most - least + 1))

    def several(self, items: Sequence[str], number: int) -> list[str]:
        """That many different ones."""
        chosen: list[str] = []
        while len(chosen) < number:
            if (item := self.pick(items)) not in chosen:
                chosen.append(item)
        return chosen

    def clause(self, subject: str, positive: bool) -> str:
        """One opinion; with a negation in it the adjective is of the other kind."""
        negated = self.chance(_NEGATED)
        adjective = self.pick(_GOOD if positive != negated else _BAD)
        words = (
            subject,
            self.pick(_VERBS),
            self.pick(_NEGATIONS) if negated else self.pick(_DEGREES),
            adjective,
        )
        return " ".join(word for word in words if word)

    def review(self, positive: bool) -> str:
        start: list[str] = []
        verdict = positive
        if self.chance(_OPENED):
            turned = self.chance(_TURNED)
            verdict = positive != turned
            opening = _OPENINGS[self.count(0, len(_OPENINGS) - 1)]
            start = [opening[0] if turned else opening[1]]
        before, after = self.count(1, 3), self.count(0, 2)
        fillers = self.several(_FILLERS, before + after)
        first, second = self.several(_SUBJECTS, 2)
        opinion = self.clause(first, verdict)
        if self.chance(_CONTRAST):
            opinion = self.pick(_JOINTS).format(D=opinion, O=self.clause(second, not verdict))
        sentences = [*start, *fillers[:before], opinion, *fillers[before:]]
        return " . ".join(sentences).replace(" .", ".").replace(" ,", ",") + "."


@lru_cache(maxsize=1)
def _corpus(seed: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """All reviews, each only once so that none of the test set has been seen in training; labels alternate."""
    writer = _Writer(seed)
    texts: dict[str, int] = {}
    while len(texts) < TRAIN_SIZE + TEST_SIZE:
        label = len(texts) % 2
        texts.setdefault(writer.review(label == 1), label)
    return tuple(texts), tuple(texts.values())


def load_reviews(split: str = "train", seed: int = SEED) -> tuple[list[str], NDArray[np.int64]]:
    """Texts and labels (0 negative, 1 positive) of split "train" (10,000) or "test" (2,000)."""
    if split not in ("train", "test"):
        raise ValueError(f"[load_reviews] split: expected 'train' or 'test', got {split!r}")
    texts, labels = _corpus(seed)
    part = slice(TRAIN_SIZE) if split == "train" else slice(TRAIN_SIZE, None)
    return list(texts[part]), np.array(labels[part], dtype=np.int64)


def load_encoded(seed: int = SEED) -> Encoded:
    """The corpus as word ranks, as `imdb.load_encoded` gives the real one."""
    train, train_labels = load_reviews("train", seed)
    test, test_labels = load_reviews("test", seed)
    words, train_ranks, test_ranks = rank_words((t.encode() for t in train), (t.encode() for t in test))
    return Encoded(Vocabulary(words), train_ranks, train_labels, test_ranks, test_labels)
