"""Word splitting, vocabularies, Tokenizer, TextEncoder; Ragged and pad_sequences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.datasets.batching import Ragged, pad_sequences
from fastrnn.datasets.text import TextEncoder, Tokenizer, Vocabulary, rank_words, split_words, tokenise

ROWS = st.lists(st.lists(st.integers(0, 50), max_size=7), max_size=6)


def slow_pad(rows, maxlen, padding, truncating, value):
    """What Keras does, one element at a time."""
    out = []
    for row in rows:
        row = list(row)
        if len(row) > maxlen:
            row = row[len(row) - maxlen :] if truncating == "pre" else row[:maxlen]
        fill = [value] * (maxlen - len(row))
        out.append(fill + row if padding == "pre" else row + fill)
    return np.array(out, dtype=np.int32).reshape(len(rows), maxlen)


@given(ROWS, st.integers(0, 9), st.sampled_from(["pre", "post"]), st.sampled_from(["pre", "post"]))
def test_pad_sequences_equals_the_definition(rows, maxlen, padding, truncating):
    expected = slow_pad(rows, maxlen, padding, truncating, 7)
    for form in (rows, Ragged.from_lists(rows), [np.array(row, dtype=np.int64) for row in rows]):
        got = pad_sequences(form, maxlen, padding=padding, truncating=truncating, value=7)
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, expected)


def test_pad_sequences_defaults_and_vectors():
    np.testing.assert_array_equal(pad_sequences([[1], [2, 3, 4]]), [[0, 0, 1], [2, 3, 4]])
    vectors = pad_sequences([[[1.5, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], dtype="float32", padding="post")
    assert vectors.shape == (2, 2, 2)
    np.testing.assert_array_equal(vectors[0], [[1.5, 2.0], [0.0, 0.0]])
    assert pad_sequences([]).shape == (0, 0)
    assert pad_sequences([[], []], maxlen=3).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert pad_sequences([["a"], ["b", "c"]], dtype=object, value="").tolist() == [["", "a"], ["b", "c"]]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (dict(sequences=[[1]], padding="left"), ValueError, "padding: expected 'pre' or 'post', got 'left'"),
        (dict(sequences=[[1]], truncating=None), ValueError, "truncating"),
        (dict(sequences=[[1]], maxlen=-1), ValueError, "maxlen: expected >= 0, got -1"),
        (dict(sequences=[[1]], maxlen=2.0), TypeError, "maxlen"),
        (dict(sequences=[1, 2]), TypeError, r"sequences\[0\]: expected a sequence, got int"),
        (dict(sequences=5), TypeError, "sequences: expected a list"),
        (dict(sequences="abc"), TypeError, "sequences"),
        (dict(sequences=[[1], [[2, 3]]]), ValueError, r"sequences\[1\]"),
        (dict(sequences=[[1, 2**40]]), ValueError, r"sequences\[0\]"),
        (dict(sequences=[["a"]], value=0), ValueError, r"sequences\[0\]"),
        (dict(sequences=[[1]], value="x"), ValueError, "value"),
    ],
)
def test_pad_sequences_refuses(arguments, error, words):
    with pytest.raises(error, match=words):
        pad_sequences(**arguments)


@given(ROWS, st.data())
def test_ragged_selects_like_a_list(rows, data):
    ragged = Ragged.from_lists(rows)
    assert [row.tolist() for row in ragged] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    order = data.draw(st.permutations(range(len(rows))))
    chosen = ragged[np.array(order, dtype=np.int64)]
    assert [row.tolist() for row in chosen] == [rows[i] for i in order]
    assert [row.tolist() for row in ragged[1:]] == rows[1:]
    assert [row.tolist() for row in ragged.prepend(99)] == [[99, *row] for row in rows]
    assert [row.tolist() for row in ragged.keep(ragged.tokens % 2 == 0)] == [[t for t in r if t % 2 == 0] for r in rows]
    assert ragged.to_lists().tolist() == rows


def test_ragged_refuses():
    with pytest.raises(ValueError, match="offsets: expected to rise from 0 to 3"):
        Ragged([1, 2, 3], [0, 2])
    with pytest.raises(ValueError, match="offsets"):
        Ragged([1, 2, 3], [0, 3, 2, 3])
    with pytest.raises(TypeError, match="tokens"):
        Ragged([1.5], [0, 1])
    ragged = Ragged([1, 2, 3], [0, 2, 3])
    with pytest.raises(IndexError):
        ragged[2]
    assert ragged[-1].tolist() == [3]
    with pytest.raises(ValueError, match=r"tokens: expected 0 \.\. 2"):
        ragged.lookup(np.arange(3))


def test_tokenise_is_keras():
    text = "It's a GREAT film, isn't it?\tYes -- \"really\"\n(10/10)! Señor_É"
    assert tokenise(text) == ["it's", "a", "great", "film", "isn't", "it", "yes", "really", "10", "10", "señor", "é"]
    assert tokenise("a-b c", filters="", lower=False) == ["a-b", "c"]
    assert tokenise("a,b", filters="c", split=",") == ["a", "b"]
    with pytest.raises(TypeError, match="text: expected str, got bytes"):
        tokenise(b"a")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), max_size=40))
def test_bytes_path_splits_like_tokenise(text):
    text = text.replace("Σ", "s")  # lower-casing a final sigma looks at the next character, here already a blank
    assert [word.decode() for word in split_words(text.encode())] == tokenise(text)


def test_split_words_line_breaks_and_bad_bytes():
    assert split_words(b"good<br /><br />bad\r\nend") == [b"good", b"bad", b"end"]
    assert split_words(b"caf\xe9 X") == ["caf\ufffd".encode(), b"x"]


def test_rank_words():
    words, train, test = rank_words([b"b a a", b"", b"A c b d"], [b"zz a", b"d d new"])
    assert words == ["a", "b", "c", "d"]  # by frequency, then in order of appearance
    assert [row.tolist() for row in train] == [[2, 1, 1], [], [1, 3, 2, 4]]
    assert [row.tolist() for row in test] == [[0, 1], [4, 4, 0]]
    assert rank_words([], [])[0] == []


def test_vocabulary():
    vocabulary = Vocabulary.fit(["to be or not to be", "to see"], size=3)
    assert vocabulary.words == ("to", "be", "or")
    assert vocabulary.encode("Be to SEE!") == [2, 1, 0]
    assert vocabulary.decode([2, 1, 0, 9]) == "be to ? ?"
    assert len(vocabulary) == 3 and "or" in vocabulary and "see" not in vocabulary
    with pytest.raises(ValueError, match="every word once"):
        Vocabulary(["a", "a"])
    with pytest.raises(TypeError, match="words"):
        Vocabulary(["a", 1])


def test_encoder_ids_and_limits():
    encoder = TextEncoder(["the", "film", "was", "good"], num_words=6, maxlen=5)  # room for two words
    assert encoder.encode(["the film<br />was", "", "a b c d e the film"]).tolist() == [
        [0, 1, 4, 5, 2],
        [0, 0, 0, 0, 1],
        [2, 2, 2, 4, 5],
    ]
    assert TextEncoder(["a", "b"], 10_000, 4).num_words == 6
    again = TextEncoder.from_json(encoder.to_json())
    assert again.to_json() == encoder.to_json()
    np.testing.assert_array_equal(again.encode(["was the film"]), encoder.encode(["was the film"]))
    with pytest.raises(TypeError, match="one str"):
        encoder.encode("the film")
    with pytest.raises(ValueError, match="maxlen: expected >= 1, got 0"):
        TextEncoder(["a"], 10, 0)
    with pytest.raises(ValueError, match="num_words"):
        TextEncoder(["a"], 4, 1)
    for text in ("", "{}", "[1]", json.dumps({"words": ["a", 1], "num_words": 9, "maxlen": 3})):
        with pytest.raises(ValueError, match="expected the JSON written by to_json"):
            TextEncoder.from_json(text)


def test_encode_ranks_equals_encoding_the_texts():
    texts = ["the good film", "a film, a bad film", "nothing good"]
    words, train, test = rank_words([t.encode() for t in texts], [b"unseen film"])
    own, other = Vocabulary(words), Vocabulary(["film", "nothing", "elsewhere"])
    for encoder in (TextEncoder(words, 6, 6), TextEncoder(other.words, 100, 6)):
        np.testing.assert_array_equal(encoder.encode_ranks(train, own), encoder.encode(texts))
        np.testing.assert_array_equal(encoder.encode_ranks(test, own), encoder.encode(["unseen film"]))


def test_tokenizer_is_keras():
    tokenizer = Tokenizer(num_words=3)
    tokenizer.fit_on_texts(["The cat sat", "the cat", ["The", "dog"]])
    assert tokenizer.word_index == {"the": 1, "cat": 2, "sat": 3, "dog": 4}
    assert tokenizer.word_counts == {"the": 3, "cat": 2, "sat": 1, "dog": 1}
    assert tokenizer.document_count == 3 and tokenizer.index_docs[1] == 3
    assert tokenizer.texts_to_sequences(["the cat sat on", "dog"]) == [[1, 2], []]
    assert tokenizer.sequences_to_texts([[1, 2]]) == ["the cat"]
    assert tokenizer.texts_to_matrix(["the the cat"], "count").tolist() == [[0, 2, 1]]
    assert tokenizer.texts_to_matrix(["the the cat"]).tolist() == [[0, 1, 1]]
    with_oov = Tokenizer(num_words=3, oov_token="<OOV>")
    with_oov.fit_on_texts(["the cat sat", "the cat"])
    assert with_oov.word_index == {"<OOV>": 1, "the": 2, "cat": 3, "sat": 4}
    assert with_oov.texts_to_sequences(["the cat flew"]) == [[2, 1, 1]]
    assert with_oov.sequences_to_texts([[2, 3]]) == ["the <OOV>"]
    chars = Tokenizer(char_level=True)
    chars.fit_on_texts(["aab"])
    assert chars.texts_to_sequences(["ba"]) == [[2, 1]]
    for bad, error in ((0, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="num_words"):
            Tokenizer(num_words=bad)
    with pytest.raises(TypeError, match="one str"):
        tokenizer.fit_on_texts("one text")
