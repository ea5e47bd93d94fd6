"""The text path; ``encode_prompts`` leads from prompts to what the transformer attends to."""

from ltx_models.text_encoder.encode import (
    PromptContext,
    connect,
    encode_features,
    encode_prompts,
    num_tokens_left_out,
    stream_features,
)

__all__ = [
    "PromptContext",
    "connect",
    "encode_features",
    "encode_prompts",
    "num_tokens_left_out",
    "stream_features",
]
