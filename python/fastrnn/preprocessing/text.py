"""Text to sequences of word ranks."""

# The tokeniser is in datasets/text.py.

from ..datasets.text import Tokenizer, text_to_word_sequence

__all__ = ["Tokenizer", "text_to_word_sequence"]
