"""The stand-in's text encoder: a Gemma 3 folder with weights, configuration and tokenizer."""

import json
import string
from pathlib import Path

import mlx.core as mx
import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ltx_models.tiny.sizes import GEMMA
from ltx_models.tiny.weights import draw
from ltx_models.weights import save_tensors

SPECIAL = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
]
GEMMA_FILES = ("tokenizer.json", "config.json", "tokenizer_config.json", "model.safetensors")
SPACE = "\u2581"  # sentencepiece's mark of a blank
WORDS = (
    "the of and a in to is with on at as it by for from video clip picture light sun sea wave "
    "waves lighthouse dusk dawn night day wind rain snow fire water cloud sky moon star tree "
    "forest river mountain city street house door window cat dog bird horse woman man child face "
    "hand voice music sound slow fast camera shot close wide red green blue gold white black"
)


def write_gemma(folder: Path) -> None:
    """Write a folder that transformers and mlx-lm could read as well."""
    folder.mkdir()
    tokenizer = make_tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    vocab_size = tokenizer.get_vocab_size()
    config = {**GEMMA, "text_config": {**GEMMA["text_config"], "vocab_size": vocab_size}}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    special = {f"{name[1:-1]}_token": name for name in SPECIAL[:4]}
    settings = {**special, "add_bos_token": True, "tokenizer_class": "GemmaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    tensors = {
        f"language_model.model.{name}": mx.array(_value(name, shape)).astype(mx.bfloat16)
        for name, shape in _shapes(config["text_config"]).items()
    }
    save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})


def make_tokenizer() -> Tokenizer:
    """Byte-pair encoding with byte fallback; its merges spell a few words letter by letter."""
    letters = [*string.ascii_letters, *string.digits, *string.punctuation, SPACE]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocab = {token: number for number, token in enumerate(tokens)}
    merges = []
    for word in WORDS.split():
        for end in range(1, len(word) + 1):
            pair = word[:end], (word + SPACE)[end]
            if "".join(pair) not in vocab:
                vocab["".join(pair)] = len(vocab)
                merges.append(pair)
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SPACE), "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    bos = ("<bos>", vocab["<bos>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[bos]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def _shapes(config: dict) -> dict[str, tuple[int, ...]]:
    dim, hidden, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries = config["num_attention_heads"] * head_dim
    keys = config["num_key_value_heads"] * head_dim
    layer = {
        "input_layernorm": (dim,),
        "post_attention_layernorm": (dim,),
        "pre_feedforward_layernorm": (dim,),
        "post_feedforward_layernorm": (dim,),
        "self_attn.q_proj": (queries, dim),
        "self_attn.k_proj": (keys, dim),
        "self_attn.v_proj": (keys, dim),
        "self_attn.o_proj": (dim, queries),
        "self_attn.q_norm": (head_dim,),
        "self_attn.k_norm": (head_dim,),
        "mlp.gate_proj": (hidden, dim),
        "mlp.up_proj": (hidden, dim),
        "mlp.down_proj": (dim, hidden),
    }
    layers = {
        f"layers.{i}.{name}.weight": shape
        for i in range(config["num_hidden_layers"])
        for name, shape in layer.items()
    }
    return {"embed_tokens.weight": (config["vocab_size"], dim), "norm.weight": (dim,), **layers}


def _value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = draw(f"gemma.{name}", shape)
    # Gemma's norms multiply by one plus their weight.
    return 0.05 * noise if len(shape) == 1 else noise / np.sqrt(shape[-1])
