"""Prompts to Gemma's token ids (spec/model.md 6.1)."""

from os import SEEK_END
from pathlib import Path

from tokenizers import Tokenizer

from ltx_models.errors import UserError, reason

BOS = "<bos>"
NAME = "tokenizer.json"
LAST = 64  # bytes of the file's end, in which it has to be closed


def load_tokenizer(gemma_folder: Path) -> Tokenizer:
    """The tokenizer of a Gemma folder; raises UserError if it has none that is whole."""
    check_tokenizer_file(gemma_folder)
    path = gemma_folder / NAME
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        if type(error) is not Exception:  # the library raises nothing better
            raise
        raise UserError(f"{path}: not a whole tokenizer: {error}\nFetch it again.") from error
    if tokenizer.token_to_id(BOS) is None:
        raise UserError(f"{path}: no token {BOS}, so this is not the tokenizer of a Gemma 3")
    tokenizer.no_padding()  # a saved tokenizer may have either switched on
    tokenizer.no_truncation()
    return tokenizer


def check_tokenizer_file(gemma_folder: Path) -> None:
    """Raise UserError unless the file is there and is closed as JSON is.

    Reading all of Gemma's takes a second, which ``load_tokenizer`` does once.
    """
    path = gemma_folder / NAME
    if not path.exists():
        raise UserError(
            f"{gemma_folder}: no {NAME}\n"
            "A Gemma 3 folder of transformers or mlx-lm has one beside config.json."
        )
    try:
        with path.open("rb") as file:
            size = file.seek(0, SEEK_END)
            file.seek(max(size - LAST, 0))
            end = file.read()
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}") from None
    if not end.rstrip().endswith(b"}"):
        raise UserError(f"{path}: not a whole tokenizer ({size} bytes)\nFetch it again.")


def num_tokens(tokenizer: Tokenizer, prompt: str) -> int:
    """How many ids ``tokenize`` would give without a limit, BOS among them."""
    return 1 + len(tokenizer.encode(prompt.strip(), add_special_tokens=False).ids)


def tokenize(tokenizer: Tokenizer, prompt: str, *, max_length: int) -> list[int]:
    """Ids of a prompt without its outer white space, from BOS on, cut to ``max_length``; no EOS."""
    ids = tokenizer.encode(prompt.strip(), add_special_tokens=False).ids
    return [tokenizer.token_to_id(BOS), *ids][:max_length]
