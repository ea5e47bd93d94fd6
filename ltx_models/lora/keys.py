"""Names of tensors in LoRA files: which module, and which part of its update (spec/lora_files 4.2).

``module`` here is a file's own name for one, without the prefixes that only say whose file it is.
What layer of ours that is, ``names`` tells.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ltx_models.config import summarise
from ltx_models.errors import UserError

KEY_PREFIX = "diffusion_model."  # what we write; the others are read
PREFIXES = ("base_model.model.", KEY_PREFIX, "transformer.", "model.")
# Of names with underscores for dots, those of kohya's family and LyCORIS.
FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")
FLAT_ROOTS = ("diffusion_model_", "model_")
READ = "LoRA, DoRA, LoHa, LoKr and full differences are"

# The ends of keys, and the parts that they are. PEFT puts an adapter's name before ".weight".
PARTS = {
    r"\.lora_A(\.\w+)?(\.weight)?": "lora_A",
    r"\.lora_B(\.\w+)?(\.weight)?": "lora_B",
    r"\.lora_down(\.weight)?": "lora_A",
    r"\.lora_up(\.weight)?": "lora_B",
    r"[._]lora\.down(\.weight)?": "lora_A",
    r"[._]lora\.up(\.weight)?": "lora_B",
    r"\.lora_linear_layer\.down(\.weight)?": "lora_A",
    r"\.lora_linear_layer\.up(\.weight)?": "lora_B",
    r"\.lora_a": "lora_a",  # mlx-lm's: transposed, and scaled by a file beside it
    r"\.lora_b": "lora_b",
    r"\.alpha": "alpha",
    r"\.(dora_scale|m|lora_magnitude_vector(\.\w+)?(\.weight)?)": "magnitude",
    r"\.(diff|w_norm)": "diff",
    r"\.(diff_b|b_norm)": "diff_b",
    **{rf"\.hada_{part}": f"hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b")},
    **{rf"\.lokr_{part}": f"lokr_{part}" for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b")},
}
# What is recognised, so as to say why it cannot be taken.
OTHERS = {
    r"\.lora_B(\.\w+)?\.bias": "a bias of lora_B's own",
    r"\.(lora_mid(\.weight)?|lokr_t\d|hada_t\d)": "a factor of convolutions, of which LTX has none",
    r"\.(set|reshape)_weight": "a weight to be replaced or reshaped",
    r"\.(oft_\w+|boft_\w+)(\.\w+)*": "of the family OFT",
    r"\.(a1|a2|b1|b2)\.weight": "of the family GLoRA",
    r"\.(vera_lambda_\w+|lora_embedding_[AB]|ia3_l)(\.\w+)*": "of another family of PEFT",
}
_PARTS = [(re.compile(f"{end}$"), part) for end, part in PARTS.items()]
_OTHERS = [(re.compile(f"{end}$"), what) for end, what in OTHERS.items()]


class LoRAError(UserError):
    """A file that is no LoRA, or one that does not fit its model."""


def parts_by_module(keys: Iterable[str], *, path: Path) -> dict[str, dict[str, str]]:
    """The keys of a file by module and by part, as ``PARTS`` names them.

    Raises LoRAError for a key that is no part of an update, for two keys of one part, and where
    there is none.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    strange = []
    for key in keys:
        module, part = _split(key)
        if module is None:
            strange.append(f"{key} is {part}")
        elif part in found[module]:
            raise LoRAError(f"{path}: {found[module][part]} and {key} are for one layer")
        else:
            found[module][part] = key
    if strange:
        listed = summarise(strange, shown=2)
        raise LoRAError(f"{path}: not a LoRA that can be read here; {READ}:\n{listed}")
    if not found:
        raise LoRAError(f"{path}: there is no tensor in it")
    return found


def _split(key: str) -> tuple[str | None, str]:
    """Module and part of a key; None and the reason for a key that is no part of an update."""
    for pattern, what in _OTHERS:
        if pattern.search(key):
            return None, what
    for pattern, part in _PARTS:
        match = pattern.search(key)
        if match and match.start() > 0:
            return module_name(key[: match.start()]), part
    return None, "no part of a LoRA"


def module_name(name: str) -> str:
    """A file's name for a module, without all prefixes that say whose file it is."""
    for prefix in FLAT_PREFIXES:
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            root = next((root for root in FLAT_ROOTS if rest.startswith(root)), "")
            return rest.removeprefix(root)
    while prefix := next((p for p in PREFIXES if name.startswith(p) and name != p), None):
        name = name.removeprefix(prefix)
    return name


SOUND_LAYERS = ("audio_", "video_to_audio_attn", "av_ca_audio_", "av_ca_v2a_")


def is_audio(module: str) -> bool:
    """Whether a layer belongs to the sound's stream, by its path; else it is the picture's.

    A layer between the streams belongs to the one that it writes to. Of the text path those layers
    are the sound's that no picture is made with.
    """
    return any(
        part.startswith(SOUND_LAYERS) and part != "audio_to_video_attn"
        for part in module.split(".")
    )
