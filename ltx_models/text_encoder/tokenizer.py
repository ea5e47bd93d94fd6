"""Prompts to Gemma's token ids (spec/model.md 6.1)."""

from pathlib import Path

from tokenizers import Tokenizer

from ltx_models.errors import UserError
from ltx_models.text_encoder.gemma_config import read_json

BOS = "<bos>"


def load_tokenizer(gemma_folder: Path) -> Tokenizer:
    """The tokenizer of a Gemma folder; raises UserError if it has none that is whole."""
    path = gemma_folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(
            f"{gemma_folder}: no tokenizer.json\n"
            "A Gemma 3 folder of transformers or mlx-lm has one beside config.json."
        )
    read_json(path)  # on a torn file Tokenizer raises no better than Exception
    tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.token_to_id(BOS) is None:
        raise UserError(f"{path}: no token {BOS}, so this is not the tokenizer of a Gemma 3")
    tokenizer.no_padding()  # a saved tokenizer may have either switched on
    tokenizer.no_truncation()
    return tokenizer


def tokenize(tokenizer: Tokenizer, prompt: str, *, max_length: int) -> list[int]:
    """Ids of a prompt without its outer white space, from BOS on, cut to ``max_length``; no EOS."""
    ids = tokenizer.encode(prompt.strip(), add_special_tokens=False).ids
    return [tokenizer.token_to_id(BOS), *ids][:max_length]
