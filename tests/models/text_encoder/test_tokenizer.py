import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_models.errors import UserError
from ltx_models.text_encoder.tokenizer import load_tokenizer, num_tokens, tokenize
from tests.conftest import GOLDEN

TOKENIZER = load_tokenizer(GOLDEN / "gemma3-tiny")
BOS, EOS = TOKENIZER.token_to_id("<bos>"), TOKENIZER.token_to_id("<eos>")


@given(prompt=st.text(max_size=40), space=st.sampled_from(["", " ", "\n\t "]))
def test_bos_text_and_nothing_else(prompt, space):
    ids = tokenize(TOKENIZER, space + prompt + space, max_length=1024)
    assert ids == [BOS, *TOKENIZER.encode(prompt.strip(), add_special_tokens=False).ids]
    assert EOS not in ids
    assert tokenize(TOKENIZER, prompt, max_length=7) == ids[:7]


def changed_tokenizer(folder, **fields):
    data = json.loads((GOLDEN / "gemma3-tiny" / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(data | fields))
    return load_tokenizer(folder)


def test_saved_padding_and_truncation_are_not_followed(tmp_path):
    tokenizer = changed_tokenizer(
        tmp_path,
        truncation={
            "direction": "Right",
            "max_length": 3,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        padding={
            "strategy": {"Fixed": 64},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        },
        post_processor=None,
    )
    prompt = "a red fox runs through snow"
    wanted = tokenize(TOKENIZER, prompt, max_length=1024)
    assert tokenize(tokenizer, prompt, max_length=1024) == wanted
    assert len(wanted) > 3


def test_folder_without_tokenizer_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer\.json\nA Gemma 3 folder of transformers"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": "1.0", ', r"not a whole tokenizer \(19 bytes\)\nFetch it again"),
        ("", r"not a whole tokenizer \(0 bytes\)"),
        ("[]", r"not a whole tokenizer \(2 bytes\)"),
        ('{"a":1}', r"not a whole tokenizer: .*\nFetch it again"),
        ('{"model": {"type": "BPE", "vocab": 1}}', r"not a whole tokenizer: .*expected a map"),
        ('{"version": "1.0", "model": {}', r"not a whole tokenizer: "),
    ],
)
def test_torn_tokenizer_is_an_error(tmp_path, text, message):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=rf"tokenizer\.json: {message}"):
        load_tokenizer(tmp_path)


def test_a_folder_in_the_tokenizers_place_is_an_error(tmp_path):
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(UserError, match=r"tokenizer\.json: is a folder, a file is wanted"):
        load_tokenizer(tmp_path)


@given(prompt=st.text(max_size=40))
def test_number_of_tokens(prompt):
    assert num_tokens(TOKENIZER, prompt) == len(tokenize(TOKENIZER, prompt, max_length=1024))
    assert (
        num_tokens(TOKENIZER, prompt) <= len(prompt.encode()) + 1
    )  # as num_tokens_left_out has it


def test_another_models_tokenizer_is_an_error(tmp_path):
    model = {"type": "WordLevel", "vocab": {"<s>": 0}, "unk_token": "<s>"}
    with pytest.raises(UserError, match=r"no token <bos>, so this is not the tokenizer"):
        changed_tokenizer(tmp_path, model=model, added_tokens=[])
