"""What a Gemma 3 folder's ``config.json`` says of its text model.

transformers and mlx-lm differ in defaults and in the spelling of some fields; this is the form in
which mlx-lm computes what transformers computes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from ltx_models.config import ConfigError, Section, as_object, read_object
from ltx_models.errors import UserError

WOULD_FIT = (
    "LTX-2 reads its text with Gemma 3 12B: google/gemma-3-12b-it or a conversion of it by "
    "mlx-community"
)


class RopeScaling(Section):
    """Stretch of the positions of the layers with full attention."""

    rope_type: Literal["default", "linear"] = "default"
    factor: PositiveFloat = 1.0


class GemmaConfig(Section):
    """Sizes of the text model, under mlx-lm's names and with the defaults of transformers."""

    constants: ClassVar[Mapping[str, Any]] = {
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
        "use_bidirectional_attention": False,
    }

    vocab_size: PositiveInt = 262208
    hidden_size: PositiveInt = 2304
    intermediate_size: PositiveInt = 9216
    num_hidden_layers: PositiveInt = 26
    num_attention_heads: PositiveInt = 8
    num_key_value_heads: PositiveInt = 4
    head_dim: PositiveInt = 256
    query_pre_attn_scalar: PositiveFloat = 256
    rms_norm_eps: PositiveFloat = 1e-6
    sliding_window: PositiveInt = 4096
    sliding_window_pattern: PositiveInt = 6  # every so many layers one has full attention
    rope_theta: PositiveFloat = 1_000_000.0
    rope_local_base_freq: PositiveFloat = 10_000.0
    rope_scaling: RopeScaling | None = None

    @property
    def num_features(self) -> int:
        """Width of all hidden states of a token, one after the other."""
        return self.hidden_size * (self.num_hidden_layers + 1)


def read_gemma_config(folder: Path) -> GemmaConfig:
    """Read ``config.json`` of a plain or quantised Gemma 3, with or without a vision tower.

    Keys of the vision tower and of text generation are passed over. Raises UserError for another
    model and ConfigError for a Gemma 3 that is not computed here.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder}: no config.json in this folder\n{WOULD_FIT}.")
    data = read_object(path)
    if data.get("model_type") not in ("gemma3", "gemma3_text"):
        raise UserError(f"{path}: model_type is {data.get('model_type')!r}\n{WOULD_FIT}.")
    _check_quantization(data, at=str(path))
    text = data if data["model_type"] == "gemma3_text" else data.get("text_config", {})
    text = as_object(text, at=f"{path}.text_config")
    return GemmaConfig.read(_in_one_form(text, at=str(path)), at=str(path))


def _in_one_form(text: Mapping[str, Any], *, at: str) -> dict[str, Any]:
    wanted = GemmaConfig.model_fields.keys() | GemmaConfig.constants.keys()
    form = {key: value for key, value in text.items() if key in wanted and value is not None}
    ropes = _object(text, "rope_parameters", at=at)  # transformers 5; before it, three keys
    at_ropes = f"{at}.rope_parameters"
    full = _object(ropes, "full_attention", at=at_ropes) | _object(form, "rope_scaling", at=at)
    sliding = _object(ropes, "sliding_attention", at=at_ropes)
    for key, rope in (("rope_theta", full), ("rope_local_base_freq", sliding)):
        if "rope_theta" in rope:
            form[key] = rope.pop("rope_theta")
    if sliding.get("rope_type", "default") != "default":
        raise ConfigError(
            f"{at}.rope_parameters.sliding_attention: {sliding}, "
            "but only the rope_type 'default' is computed here"
        )
    if "type" in full:  # an older spelling
        full.setdefault("rope_type", full.pop("type"))
    form["rope_scaling"] = RopeScaling.read(full, at=f"{at}.rope_scaling")
    if text.get("layer_types") is not None:
        form["sliding_window_pattern"] = _pattern(text["layer_types"], at=at)
    return form


def _check_quantization(data: Mapping[str, Any], *, at: str) -> None:
    """Raise ConfigError for what mlx-lm would stumble over."""
    _object(data, "quantization_config", at=at)
    said = _object(data, "quantization", at=at)
    for key in ("group_size", "bits"):
        if said and type(said.get(key)) is not int:
            raise ConfigError(f"{at}.quantization.{key}: {said.get(key)!r}, a number is wanted")


def _object(data: Mapping[str, Any], key: str, *, at: str) -> dict[str, Any]:
    """A copy of the object under a key; empty where the key is absent or null."""
    value = data.get(key)
    return {} if value is None else dict(as_object(value, at=f"{at}.{key}"))


def _pattern(layer_types: Any, *, at: str) -> int:
    """The period of full attention in a list of layers, which is all that mlx-lm knows of them."""
    if not isinstance(layer_types, list):
        raise ConfigError(f"{at}.layer_types: {layer_types!r}, a list of names is wanted")
    full, sliding = "full_attention", "sliding_attention"
    pattern = layer_types.index(full) + 1 if full in layer_types else len(layer_types) + 1
    periodic = [full if i % pattern == 0 else sliding for i in range(1, len(layer_types) + 1)]
    if layer_types != periodic:
        raise ConfigError(
            f"{at}.layer_types: {', '.join(map(str, layer_types))}; "
            f"only {full} at a constant distance, with {sliding} between, is computed here"
        )
    return pattern
