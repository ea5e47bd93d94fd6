"""Every golden component: what computes it here, or its place among what is not built yet."""

from tests.parity import (
    audio,
    conditions,
    lora,
    media,
    pipelines,
    sampling,
    schedule,
    text,
    training,
    transformer,
    video,
)

COMPONENTS = {
    **transformer.COMPONENTS,
    **video.COMPONENTS,
    **audio.COMPONENTS,
    **text.COMPONENTS,
    **schedule.COMPONENTS,
    **sampling.COMPONENTS,
    **conditions.COMPONENTS,
    **training.COMPONENTS,
    **lora.COMPONENTS,
    **media.COMPONENTS,
    **pipelines.COMPONENTS,
}

# Components that later work brings. Their cases are not collected; their number is printed.
PENDING: frozenset[str] = frozenset()
