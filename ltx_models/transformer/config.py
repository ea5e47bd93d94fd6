"""The ``transformer`` section of a checkpoint's configuration (spec/model.md 2.2).

The text connectors' keys lie in the same section, so that both networks read it.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, PositiveFloat, PositiveInt

from ltx_models.config import ConfigError, LayerCount, Section, summarise
from ltx_models.transformer.rope import Precision

HeadDim = Annotated[int, Field(gt=0, multiple_of=2)]  # the rotary embedding turns pairs
MaxPos1 = Annotated[tuple[PositiveFloat], Field(strict=False)]  # JSON has lists
MaxPos3 = Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], Field(strict=False)]


class ConnectorSize(NamedTuple):
    """Sizes of one text connector."""

    num_heads: int
    head_dim: int
    num_layers: int

    @property
    def dim(self) -> int:
        """Width of the connector's tokens."""
        return self.num_heads * self.head_dim


class TransformerConfig(Section):
    """The transformer and the text connectors; ``audio_`` keys are the sound stream's.

    Absent keys take the reference's defaults. Sizes of the released models: ltx_models/released.py.
    """

    constants: ClassVar[Mapping[str, Any]] = {
        "dropout": 0.0,
        "attention_bias": True,
        "num_vector_embeds": None,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000,
        "use_linear_projection": False,
        "only_cross_attention": False,
        "cross_attention_norm": True,
        "double_self_attention": False,
        "upcast_attention": False,
        "standardization_norm": "rms_norm",
        "norm_elementwise_affine": False,
        "qk_norm": "rms_norm",
        "positional_embedding_type": "rope",
        "use_audio_video_cross_attention": True,
        "share_ff": False,
        "av_cross_ada_norm": True,
        "use_middle_indices_grid": True,
        "rope_type": "split",
        "use_prompt_adaln_single": True,
        "ff_bias": True,
        "audio_ff_bias": True,
        "connector_ff_bias": True,
        "use_keyframes_abs_pos_embedding": False,
        "connector_num_learnable_registers": 128,
    }
    idle: ClassVar[Collection[str]] = (
        "_class_name",
        "_diffusers_version",
        "attention_type",
        "causal_temporal_positioning",
        "connector_learnable_registers_std",
        "connector_norm_output",
        "norm_num_groups",
        "text_encoder_norm_type",
        "use_embeddings_connector",
    )

    num_layers: LayerCount = 48
    norm_eps: PositiveFloat = 1e-6
    num_attention_heads: PositiveInt = 32
    attention_head_dim: HeadDim = 128
    in_channels: PositiveInt = 128
    out_channels: PositiveInt = 128
    cross_attention_dim: PositiveInt = 4096
    audio_num_attention_heads: PositiveInt = 32
    audio_attention_head_dim: HeadDim = 64
    audio_in_channels: PositiveInt = 128
    audio_out_channels: PositiveInt = 128
    audio_cross_attention_dim: PositiveInt = 2048
    apply_gated_attention: bool = False
    cross_attention_adaln: bool = False

    timestep_scale_multiplier: float = 1000.0
    av_ca_timestep_scale_multiplier: float = 1.0
    positional_embedding_theta: PositiveFloat = 10000.0
    positional_embedding_max_pos: MaxPos3 = (20.0, 2048.0, 2048.0)
    audio_positional_embedding_max_pos: MaxPos1 = (20.0,)
    frequencies_precision: Precision = "float32"

    caption_channels: PositiveInt = 3840
    caption_proj_before_connector: bool | None = None
    caption_projection_first_linear: bool | None = None
    caption_proj_input_norm: bool | None = None
    caption_projection_second_linear: bool | None = None

    connector_num_attention_heads: PositiveInt = 30
    connector_attention_head_dim: HeadDim = 128
    connector_num_layers: LayerCount = 2
    audio_connector_num_attention_heads: PositiveInt | None = None
    audio_connector_attention_head_dim: HeadDim | None = None
    audio_connector_num_layers: LayerCount | None = None
    connector_positional_embedding_max_pos: MaxPos1 = (1.0,)
    connector_apply_gated_attention: bool = False

    @classmethod
    def read(
        cls, data: Mapping[str, Any], *, at: str = "config", allow_unknown: Collection[str] = ()
    ) -> Self:
        """Build from the section's data; raises ConfigError also where its keys contradict."""
        config = super().read(data, at=at, allow_unknown=allow_unknown)
        if problems := _contradictions(config):
            raise ConfigError(summarise([f"{at}.{problem}" for problem in problems]))
        return config

    @property
    def dim(self) -> int:
        """Width of the video stream."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def audio_dim(self) -> int:
        """Width of the sound stream."""
        return self.audio_num_attention_heads * self.audio_attention_head_dim

    @property
    def feature_version(self) -> Literal["V1", "V2"]:
        """Which text features (spec/model.md 6.2).

        With V1 the transformer has the caption projection, with V2 the features come projected.
        """
        return "V1" if self.caption_proj_before_connector is None else "V2"

    @property
    def connector(self) -> ConnectorSize:
        """Sizes of the video stream's connector."""
        return ConnectorSize(
            self.connector_num_attention_heads,
            self.connector_attention_head_dim,
            self.connector_num_layers,
        )

    @property
    def audio_connector(self) -> ConnectorSize:
        """Sizes of the sound stream's connector, each by default the video connector's."""
        return ConnectorSize(
            self.audio_connector_num_attention_heads or self.connector_num_attention_heads,
            self.audio_connector_attention_head_dim or self.connector_attention_head_dim,
            self.audio_connector_num_layers or self.connector_num_layers,
        )


_CAPTION_KEYS = {  # what V2 says in each; V1 has none of them
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "caption_proj_input_norm": False,
    "caption_projection_second_linear": False,
}


def _contradictions(config: TransformerConfig) -> list[str]:
    said = {key: getattr(config, key) for key in _CAPTION_KEYS}
    if said != _CAPTION_KEYS and set(said.values()) != {None}:
        found = ", ".join(f"{key} {value}" for key, value in said.items())
        wanted = ", ".join(f"{key} {value}" for key, value in _CAPTION_KEYS.items())
        return [f"caption_proj*: {found}; only {wanted}, or none of these keys, is computed here"]

    # The width of a connector's tokens is that of their reader in the transformer.
    v1 = config.feature_version == "V1"
    readers = (
        ["caption_channels"] * 2 if v1 else ["cross_attention_dim", "audio_cross_attention_dim"]
    )
    pairs = [
        ("audio_num_attention_heads", "num_attention_heads", config.num_attention_heads),
        ("cross_attention_dim", "num_attention_heads * attention_head_dim", config.dim),
        (
            "audio_cross_attention_dim",
            "audio_num_attention_heads * audio_attention_head_dim",
            config.audio_dim,
        ),
        (readers[0], "the video connector's heads * head_dim", config.connector.dim),
        (readers[1], "the audio connector's heads * head_dim", config.audio_connector.dim),
    ]
    return [
        f"{key}: {getattr(config, key)}, but {other} is {value}"
        for key, other, value in pairs
        if getattr(config, key) != value
    ]
