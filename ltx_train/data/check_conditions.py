"""Whether conditions can be applied to the samples that there are."""

from collections.abc import Sequence

from ltx_models.errors import UserError
from ltx_models.transformer.patchify import VideoScale
from ltx_train.config.strategy import FirstFrame, Mask, Reference, StrategyConfig
from ltx_train.data.batches import given_tokens, streams, token_grid
from ltx_train.data.samples import Sample


def check_conditions(
    samples: Sequence[Sample], strategy: StrategyConfig, *, scale: VideoScale
) -> list[str]:
    """What a person should know of the conditions, a line each.

    A condition is not applied to a sample of which it would give nothing, or leave nothing to
    generate. Raises UserError for one that no sample can have, but for the first frame: of stills
    it is known that they have no other.
    """
    notes = []
    for name, stream in streams(strategy).items():
        grids = [token_grid(sample.parts[stream.latents_dir]) for sample in samples]
        for number, condition in enumerate(stream.conditions):
            if isinstance(condition, Mask | Reference):
                continue
            sizes = {grid: given_tokens(condition, [], grid, scale=scale) for grid in set(grids)}
            useless = [grid for grid, given in sizes.items() if given.all() or not given.any()]
            count = sum(grid in useless for grid in grids)
            at = f"training_strategy.{name}.conditions.{number}: {condition.type}"
            if count == len(samples) and not isinstance(condition, FirstFrame):
                frames, height, width = useless[0]
                raise UserError(
                    f"{at} gives all or nothing of every sample; one has {frames} x {height} x "
                    f"{width} latents (frames or steps of sound, rows, columns)"
                )
            if count:
                notes.append(
                    f"{at} is not applied to {count} of {len(samples)} samples, as it would give "
                    "all or nothing of them"
                )
    return notes
