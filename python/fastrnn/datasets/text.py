"""From text to numbers: Keras's word splitting, a vocabulary by frequency, `Tokenizer`, and the encoder of models.

Everything is word level and plain Python + NumPy; nothing here knows about a particular corpus.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batching import Ragged, pad_sequences

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def tokenise(text: str, filters: str = FILTERS, lower: bool = True, split: str = " ") -> list[str]:
    """Words of `text`: lower-cased, `filters` become `split`, then split; the apostrophe stays (don't, isn't)."""
    if not isinstance(text, str):
        raise TypeError(f"[tokenise] text: expected str, got {type(text).__name__}")
    if lower:
        text = text.lower()
    return [word for word in text.translate({ord(c): split for c in filters}).split(split) if word]


text_to_word_sequence = tokenise

# The same for UTF-8 bytes, where one table does filtering and ASCII lower-casing at once. The filters are all
# ASCII, so no byte of a longer character is touched; longer characters are lowered only in texts that have any.
_BYTE_TABLE = bytes(0x20 if chr(i) in FILTERS else i + 32 if 65 <= i <= 90 else i for i in range(256))


def split_words(raw: bytes) -> list[bytes]:
    """`tokenise` for a UTF-8 review: HTML line breaks are blanks, as are carriage returns and form feeds."""
    line = raw.replace(b"<br />", b" ").translate(_BYTE_TABLE)
    if not line.isascii():
        line = line.decode("utf-8", "replace").lower().encode("utf-8")
    return line.split()


class _FirstSeen(dict[bytes, int]):
    """word -> number in the order of first appearance; looking a new word up adds it."""

    def __missing__(self, word: bytes) -> int:
        self[word] = number = len(self)
        return number


def rank_words(train: Iterable[bytes], test: Iterable[bytes]) -> tuple[list[str], Ragged, Ragged]:
    """Tokenise two sets of UTF-8 texts and rank the words of the first by frequency.

    Returns the words (most frequent first, ties in order of appearance) and both sets as ranks: rank r is
    words[r - 1]; 0 is a word that the first set does not have. Sized for 50,000 reviews in a few seconds: the only
    Python per word is one dictionary lookup driven by `map`.
    """
    seen = _FirstSeen()
    parts: list[tuple[NDArray[np.int32], list[int]]] = []
    for texts in (train, test):
        numbers, lengths = array("i"), []
        for raw in texts:
            words = split_words(raw)
            numbers.extend(map(seen.__getitem__, words))
            lengths.append(len(words))
        parts.append((np.array(numbers, dtype=np.int32), lengths))
    counts = np.bincount(parts[0][0], minlength=len(seen))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    rank = np.zeros(len(seen), dtype=np.int32)
    rank[order] = np.arange(1, order.size + 1)
    names = list(seen)
    train_set, test_set = (Ragged.from_lengths(rank[tokens], lengths) for tokens, lengths in parts)
    return [names[i].decode("utf-8") for i in order], train_set, test_set


class Vocabulary:
    """Words by rank: rank 1 is the most frequent, rank 0 stands for every word that is not in it.

    words: most frequent first, each once. ValueError for repeated words, TypeError for anything but str.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words: tuple[str, ...] = tuple(words)
        if not all(isinstance(word, str) for word in self.words):
            raise TypeError("[Vocabulary] words: expected strings, got something else among them")
        self.word_index: dict[str, int] = {word: i for i, word in enumerate(self.words, start=1)}
        if len(self.word_index) != len(self.words):
            raise ValueError("[Vocabulary] words: expected every word once, got repetitions")

    @classmethod
    def fit(cls, texts: Iterable[str], size: int | None = None) -> Vocabulary:
        """The `size` most frequent words of the texts (default: all)."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(tokenise(text))
        return cls(word for word, _ in counts.most_common(size))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.word_index

    def encode(self, text: str) -> list[int]:
        """Ranks of the words of `text`, 0 for unknown ones."""
        return [self.word_index.get(word, 0) for word in tokenise(text)]

    def decode(self, ranks: Iterable[int], unknown: str = "?") -> str:
        """Words of the ranks; 0 and whatever lies outside give `unknown`."""
        return " ".join(self.words[r - 1] if 0 < r <= len(self.words) else unknown for r in ranks)


class TextEncoder:
    """Text to rows of ids for an Embedding, with everything that must be known again when a saved model is used.

    Ids as in Keras's imdb: 0 padding, `start_char` in front of every text, `oov_char` for a word outside,
    rank + `index_from` for the rest, all below `num_words`. Rows are `maxlen` long, padded and cut in front.
    """

    START, OOV, INDEX_FROM = 1, 2, 3

    def __init__(self, words: Sequence[str], num_words: int, maxlen: int) -> None:
        if num_words <= self.INDEX_FROM + 1:
            raise ValueError(f"[TextEncoder] num_words: expected > {self.INDEX_FROM + 1}, got {num_words}")
        if maxlen < 1:
            raise ValueError(f"[TextEncoder] maxlen: expected >= 1, got {maxlen}")
        self.vocabulary = Vocabulary(words[: num_words - self.INDEX_FROM - 1])
        self.num_words = min(int(num_words), len(self.vocabulary) + self.INDEX_FROM + 1)
        self.maxlen = int(maxlen)

    def encode(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """(N, maxlen) int32 ids of raw texts."""
        if isinstance(texts, str):
            raise TypeError("[TextEncoder] texts: expected a list of texts, got one str")
        index, shift = self.vocabulary.word_index, self.INDEX_FROM
        rows = []
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"[TextEncoder] texts: expected strings, got {type(text).__name__}")
            ranks = (index.get(word.decode("utf-8")) for word in split_words(text.encode("utf-8", "replace")))
            rows.append([self.START] + [self.OOV if rank is None else rank + shift for rank in ranks])
        return pad_sequences(rows, self.maxlen)

    def encode_ranks(self, ranks: Ragged, vocabulary: Vocabulary) -> NDArray[np.int32]:
        """(N, maxlen) int32 ids of a corpus that is already ranks of `vocabulary`; equals `encode` of its texts."""
        table = np.full(len(vocabulary) + 1, self.OOV, dtype=np.int32)
        if vocabulary.words[: len(self.vocabulary)] == self.vocabulary.words:
            table[1 : len(self.vocabulary) + 1] = np.arange(1, len(self.vocabulary) + 1) + self.INDEX_FROM
        else:  # another corpus than the one this encoder was made from
            index = self.vocabulary.word_index
            for rank, word in enumerate(vocabulary.words, start=1):
                if word in index:
                    table[rank] = index[word] + self.INDEX_FROM
        return pad_sequences(ranks.lookup(table).prepend(self.START), self.maxlen)

    def to_json(self) -> str:
        """Everything needed to build it again."""
        return json.dumps(
            {"words": self.vocabulary.words, "num_words": self.num_words, "maxlen": self.maxlen}, ensure_ascii=False
        )

    @classmethod
    def from_json(cls, text: str) -> TextEncoder:
        """The inverse of `to_json`; ValueError for anything else."""
        try:
            state = json.loads(text)
            words, num_words, maxlen = state["words"], state["num_words"], state["maxlen"]
            if not isinstance(words, list) or type(num_words) is not int or type(maxlen) is not int:
                raise TypeError
            return cls(words, num_words, maxlen)
        except (KeyError, TypeError, ValueError):
            raise ValueError("[TextEncoder] text: expected the JSON written by to_json, got something else") from None


class Tokenizer:
    """Keras's `preprocessing.text.Tokenizer`: word ranks from `fit_on_texts`, sequences of them from texts.

    num_words: only ranks below it are kept (so the num_words - 1 most frequent words). oov_token: if given, it is
    rank 1 and stands for every other word; without it such words are skipped.
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
    ) -> None:
        if num_words is not None and (isinstance(num_words, bool) or not isinstance(num_words, (int, np.integer))):
            raise TypeError(f"[Tokenizer] num_words: expected an integer or None, got {num_words!r}")
        if num_words is not None and num_words < 1:
            raise ValueError(f"[Tokenizer] num_words: expected >= 1, got {num_words}")
        self.num_words, self.filters, self.lower, self.split = num_words, filters, lower, split
        self.char_level, self.oov_token = char_level, oov_token
        self.document_count = 0
        self.word_counts: dict[str, int] = {}
        self.word_docs: dict[str, int] = {}
        self.index_docs: dict[int, int] = {}
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    def _words(self, text: str | Sequence[str]) -> list[str]:
        if self.char_level or not isinstance(text, str):
            return [item.lower() for item in text] if self.lower else list(text)
        return tokenise(text, self.filters, self.lower, self.split)

    def fit_on_texts(self, texts: Iterable[str | Sequence[str]]) -> None:
        """Count the words of the texts (added to what was counted before) and rank them anew."""
        if isinstance(texts, str):
            raise TypeError("[Tokenizer] texts: expected a list of texts, got one str")
        for text in texts:
            words = self._words(text)
            self.document_count += 1
            for word in words:
                self.word_counts[word] = self.word_counts.get(word, 0) + 1
            for word in set(words):
                self.word_docs[word] = self.word_docs.get(word, 0) + 1
        ranked = sorted(self.word_counts, key=lambda word: -self.word_counts[word])
        if self.oov_token is not None:
            ranked.insert(0, self.oov_token)
        self.word_index = {word: i for i, word in enumerate(dict.fromkeys(ranked), start=1)}
        self.index_word = {i: word for word, i in self.word_index.items()}
        self.index_docs = {self.word_index[word]: n for word, n in self.word_docs.items()}

    def texts_to_sequences(self, texts: Iterable[str | Sequence[str]]) -> list[list[int]]:
        """A list of ranks per text."""
        if isinstance(texts, str):
            raise TypeError("[Tokenizer] texts: expected a list of texts, got one str")
        limit = self.num_words or len(self.word_index) + 1
        oov = None if self.oov_token is None else self.word_index.get(self.oov_token)
        sequences = []
        for text in texts:
            ranks = (self.word_index.get(word) for word in self._words(text))
            row = [rank if rank is not None and rank < limit else oov for rank in ranks]
            sequences.append([rank for rank in row if rank is not None])
        return sequences

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """The words of the ranks, joined by blanks."""
        limit = self.num_words or len(self.word_index) + 1
        texts = []
        for sequence in sequences:
            words = (self.index_word.get(int(i), self.oov_token) if i < limit else self.oov_token for i in sequence)
            texts.append(" ".join(word for word in words if word is not None))
        return texts

    def sequences_to_matrix(self, sequences: Sequence[Sequence[int]], mode: str = "binary") -> NDArray[np.float64]:
        """(N, num_words) bag of words; mode "binary", "count" or "freq" ("tfidf" is not offered)."""
        if mode not in ("binary", "count", "freq"):
            raise ValueError(f"[Tokenizer] mode: expected 'binary', 'count' or 'freq', got {mode!r}")
        width = self.num_words or len(self.word_index) + 1
        out = np.zeros((len(sequences), width))
        for row, sequence in zip(out, sequences, strict=True):
            ids = np.asarray([i for i in sequence if 0 <= i < width], dtype=np.int64)
            row += np.bincount(ids, minlength=width) / (max(len(sequence), 1) if mode == "freq" else 1)
        return np.minimum(out, 1.0) if mode == "binary" else out

    def texts_to_matrix(self, texts: Iterable[str | Sequence[str]], mode: str = "binary") -> NDArray[np.float64]:
        """`sequences_to_matrix` of `texts_to_sequences`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def get_config(self) -> dict[str, Any]:
        """The arguments and what was counted."""
        keys = ("num_words", "filters", "lower", "split", "char_level", "oov_token", "document_count", "word_counts")
        return {key: getattr(self, key) for key in keys}
