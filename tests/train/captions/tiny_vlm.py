"""A tiny random vision-language model as mlx-vlm's converter writes one: SmolVLM's architecture."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

END, IMAGE, FAKE, WHOLE = (
    "<end_of_utterance>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
)
SPECIAL = ("<unk>", "<|im_start|>", END, IMAGE, FAKE, WHOLE)
ENDS = ("dan", "kel", "fis", "por", "gul", "ven", "rit", "mas")
WORDS = (".", *(begin + end for begin in ("ba", "lo", "mi", "ru", "te") for end in ENDS), ",")
PATCHES_A_SIDE, SHUFFLE = 4, 2
TOKENS_A_PICTURE = (PATCHES_A_SIDE // SHUFFLE) ** 2
PICTURE = PATCHES_A_SIDE * 4  # pixels a side
WIDTH = 32
CHAT = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def sizes() -> dict:
    """The contents of config.json."""
    vocabulary = [*SPECIAL, *WORDS]
    end = vocabulary.index(END)
    common = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2}
    return {
        "architectures": ["Idefics3ForConditionalGeneration"],
        "model_type": "idefics3",
        "scale_factor": SHUFFLE,
        "image_token_id": vocabulary.index(IMAGE),
        "vocab_size": len(vocabulary),
        "tie_word_embeddings": False,
        "eos_token_id": [end],
        "pad_token_id": end,
        "text_config": {
            **common,
            "model_type": "llama",
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 2048,
            "bos_token_id": vocabulary.index("<|im_start|>"),
            "eos_token_id": end,
            "pad_token_id": end,
        },
        "vision_config": {
            **common,
            "model_type": "idefics3_vision",
            "num_attention_heads": 2,
            "patch_size": PICTURE // PATCHES_A_SIDE,
            "image_size": PICTURE,
        },
    }


def write_words(folder: Path) -> None:
    """What the processor of a model is read from: tokenizer, chat template, picture sizes."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
            "bos_token": "<|im_start|>",
            "eos_token": END,
            "pad_token": END,
            "additional_special_tokens": [IMAGE, FAKE],
        },
        "chat_template.json": {"chat_template": CHAT},
        "processor_config.json": {
            "processor_class": "Idefics3Processor",
            "image_seq_len": TOKENS_A_PICTURE,
        },
        "preprocessor_config.json": {
            "image_processor_type": "Idefics3ImageProcessor",
            "processor_class": "Idefics3Processor",
            "size": {"longest_edge": 2 * PICTURE},  # two by two tiles and the whole
            "max_image_size": {"longest_edge": PICTURE},
            "do_image_splitting": True,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


def write_vlm(folder: Path) -> Path:
    """Write a model quantised to 4 bits, as the default one is; returns its folder."""
    from mlx_vlm import utils  # noqa: PLC0415  (it takes a second)

    folder.mkdir(parents=True)
    config = sizes()
    arch, _ = utils.get_model_and_args(config)
    model_config = utils.update_module_configs(
        arch.ModelConfig.from_dict(config), arch, config, ["text", "vision"]
    )
    model = arch.Model(model_config)
    mx.random.seed(11)
    model.update(tree_map(lambda w: mx.random.normal(w.shape) * 0.3, model.parameters()))
    model.language_model.lm_head.weight[: len(SPECIAL)] = 0  # words only: some are above zero
    nn.quantize(model, group_size=32, bits=4, class_predicate=_is_quantised)
    config["quantization"] = {"group_size": 32, "bits": 4}
    mx.eval(model.parameters())
    utils.save_weights(folder, model)
    utils.save_config(config, folder / "config.json")
    write_words(folder)
    return folder


def _is_quantised(_path: str, module: nn.Module) -> bool:
    return hasattr(module, "to_quantized") and module.weight.size % 64 == 0


def write_torch_vlm(folder: Path) -> Path:
    """Write a model in float32 with transformers, which mlx-vlm reads too; returns its folder."""
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        Idefics3Config,
        Idefics3ForConditionalGeneration,
    )

    torch.manual_seed(11)
    model = Idefics3ForConditionalGeneration(Idefics3Config(**sizes()))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
        model.lm_head.weight[: len(SPECIAL)] = 0
    model.save_pretrained(folder)
    write_words(folder)
    return folder
