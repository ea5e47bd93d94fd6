"""Every golden component: what computes it here, or its place among what is not built yet."""

from tests.parity import audio, schedule, text, transformer, video

COMPONENTS = {
    **transformer.COMPONENTS,
    **video.COMPONENTS,
    **audio.COMPONENTS,
    **text.COMPONENTS,
    **schedule.COMPONENTS,
}

# Components that later work brings. Their cases are not collected; their number is printed.
PENDING = frozenset(
    {
        "conditioning",
        "guider",
        "image_preprocess",
        "lora_fusion",
        "loop",
        "lr_schedule",
        "mask_downsample",
        "pipeline",
        "res2s_coefficients",
        "step",
        "temporal_subsample",
        "timestep_sampler",
        "training",
        "transformer_lora",
    }
)
