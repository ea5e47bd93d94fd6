"""Configuration of the stand-in: a complete LTX-2.3, small enough for any machine."""

from ltx_models.released import LTX_2_3

LATENT_CHANNELS, AUDIO_CHANNELS, TEXT_CHANNELS = 16, 32, 48
UPSCALER_CHANNELS = 32

_RES_BLOCK = ["res_x", {"num_layers": 1}]


def _one_block_a_rung(blocks: list) -> list:
    return [_RES_BLOCK if name == "res_x" else [name, options] for name, options in blocks]


CHECKPOINT = {
    "transformer": {
        **LTX_2_3["transformer"],
        "num_layers": 6,
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "cross_attention_dim": 64,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "audio_num_attention_heads": 4,
        "audio_attention_head_dim": 8,
        "audio_cross_attention_dim": 32,
        "audio_in_channels": AUDIO_CHANNELS,
        "audio_out_channels": AUDIO_CHANNELS,
        "caption_channels": TEXT_CHANNELS,
        "connector_num_attention_heads": 4,
        "connector_attention_head_dim": 16,
        "connector_num_layers": 2,
        "audio_connector_num_attention_heads": 4,
        "audio_connector_attention_head_dim": 8,
        "audio_connector_num_layers": 2,
    },
    "vae": {
        **LTX_2_3["vae"],
        "latent_channels": LATENT_CHANNELS,
        "decoder_base_channels": 8,
        "encoder_blocks": _one_block_a_rung(LTX_2_3["vae"]["encoder_blocks"]),
        "decoder_blocks": _one_block_a_rung(LTX_2_3["vae"]["decoder_blocks"]),
    },
    "audio_vae": {
        **LTX_2_3["audio_vae"],
        "model": {
            "params": {
                **LTX_2_3["audio_vae"]["model"]["params"],
                "ddconfig": {
                    **LTX_2_3["audio_vae"]["model"]["params"]["ddconfig"],
                    "ch": AUDIO_CHANNELS,
                    "z_channels": 2,
                    "num_res_blocks": 1,
                },
            }
        },
    },
    "vocoder": {
        "vocoder": {**LTX_2_3["vocoder"]["vocoder"], "upsample_initial_channel": 64},
        "bwe": {**LTX_2_3["vocoder"]["bwe"], "upsample_initial_channel": 32},
    },
}

_UPSCALER = {
    "in_channels": LATENT_CHANNELS,
    "mid_channels": UPSCALER_CHANNELS,
    "num_blocks_per_stage": 1,
    "dims": 3,
    "spatial_upsample": True,
    "temporal_upsample": False,
    "spatial_scale": 2.0,
    "rational_resampler": False,
}

UPSCALERS = {
    "ltx-2.3-spatial-upscaler-x2-1.1": _UPSCALER,
    "ltx-2.3-spatial-upscaler-x1.5-1.0": {
        **_UPSCALER,
        "spatial_scale": 1.5,
        "rational_resampler": True,
    },
    "ltx-2.3-temporal-upscaler-x2-1.0": {
        **_UPSCALER,
        "spatial_upsample": False,
        "temporal_upsample": True,
    },
}

GEMMA = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "boi_token_index": 7,
    "eoi_token_index": 8,
    "image_token_index": 9,
    "mm_tokens_per_image": 4,
    "torch_dtype": "bfloat16",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": TEXT_CHANNELS,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_hidden_layers": 3,
        "query_pre_attn_scalar": 16,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 64,
        "sliding_window_pattern": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    },
}

NUM_FEATURES = TEXT_CHANNELS * (GEMMA["text_config"]["num_hidden_layers"] + 1)
