"""Whether samples were made for the model of a run: looked at before its weights are read.

Files that do not say what made them (the public trainer's) are checked by their shapes alone.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from textwrap import shorten

from ltx_infer.hub import ModelFiles, find_model
from ltx_infer.progress import Report
from ltx_models.audio_vae import AudioVAEConfig
from ltx_models.checkpoint import Checkpoint
from ltx_models.converted.layout import PROJECTION
from ltx_models.errors import UserError
from ltx_models.transformer.block import Streams
from ltx_models.transformer.config import TransformerConfig
from ltx_train.config import ModelConfig
from ltx_train.data.dataset import version_text
from ltx_train.data.samples import Part, Sample, SampleFile, read_features, read_part
from ltx_train.precompute.store import encoder_of, made_by


class Makers:
    """Which weights of a checkpoint make which files, by hash; each is computed when asked for."""

    def __init__(self, checkpoint: Checkpoint):
        self._checkpoint = checkpoint
        self.version = version_text(checkpoint)

    @cached_property
    def video(self) -> str:
        """Of the picture's latents."""
        return encoder_of(self._checkpoint, "vae").hash

    @cached_property
    def audio(self) -> str:
        """Of the sound's latents."""
        return encoder_of(self._checkpoint, "audio_vae").hash

    @cached_property
    def text(self) -> str:
        """Of text features: the checkpoint's part, after the text encoder's own."""
        return made_by(self._checkpoint, PROJECTION).hash


def find_base(model: ModelConfig) -> ModelFiles:
    """The checkpoint to train on. Raises UserError for a distilled one, unless that is allowed."""
    variant = "distilled" if model.allow_distilled else "dev"
    files = find_model(model.model_path, variant=variant, flag="model.model_path")
    if files.variant == "distilled" and not model.allow_distilled:
        raise UserError(
            f"model.model_path {files.checkpoint}: these are distilled weights. An adapter is "
            "trained on the dev weights, and then works on both.\n"
            "Name the dev checkpoint, or set model.allow_distilled=true"
        )
    if files.bits is not None:
        files.notes.append(
            f"model.model_path {model.model_path}: {files.place}; here acceleration.quantization "
            "says how it is quantised"
        )
    return files


def check_samples(samples: Sequence[Sample], checkpoint: Checkpoint, streams: Streams) -> None:
    """Raise UserError unless the samples were made by this model, and for these streams."""
    makers, sizes = Makers(checkpoint), _sizes(checkpoint)
    config = checkpoint.section("transformer", TransformerConfig)
    widths = {"video": config.connector.dim, "audio": config.audio_connector.dim}
    for sample in samples:
        for part in sample.parts.values():
            if not part.role.endswith("mask"):
                stream = part.role.removesuffix("_reference")
                _check_maker(part.file, makers.version, _said_hash(part.file), makers, stream)
                _check_latents(part, sizes[stream], checkpoint)
        check_text(sample.conditions, makers)
        found = dict(zip(widths, sample.feature_dims, strict=True))
        for stream in streams:
            if found[stream] != widths[stream]:
                raise UserError(
                    f"{sample.conditions.path}: text features of {found[stream]} channels; "
                    f"{checkpoint.path.name} takes {widths[stream]}"
                )


def check_text(file: SampleFile, makers: Makers) -> None:
    """Raise UserError unless text features were made with the checkpoint's projection."""
    said = _said_hash(file)
    # Which text encoder stands in front of it is not for the checkpoint to say.
    _check_maker(file, makers.version, said and said.rpartition("-")[2], makers, "text")


def _said_hash(file: SampleFile) -> str | None:
    return file.metadata.get("model_hash")


def _check_maker(
    file: SampleFile, version: str, said_hash: str | None, makers: Makers, name: str
) -> None:
    said = file.metadata.get("model_version", version)
    how = None
    if said != version:
        how = f"made for model version {said}; the model is version {version}"
    elif said_hash not in (None, own := getattr(makers, name)):
        how = f"made with weights {said_hash}; those of the model are {own}"
    if how is not None:
        raise UserError(
            f"{file.path}: {how}.\nltx-precompute --overwrite makes it anew with this model"
        )


def _sizes(checkpoint: Checkpoint) -> Mapping[str, Mapping[int, int]]:
    """By stream, what latents have on some of their axes."""
    config = checkpoint.section("transformer", TransformerConfig)
    sound = checkpoint.section("audio_vae", AudioVAEConfig)
    return {
        "video": {0: config.in_channels},
        "audio": {0: sound.ddconfig.z_channels, 2: sound.latent_mel_bins},
    }


def _check_latents(part: Part, sizes: Mapping[int, int], checkpoint: Checkpoint) -> None:
    if any(part.shape[axis] != size for axis, size in sizes.items()):
        found, wanted = (
            " x ".join(map(str, each))
            for each in ([part.shape[axis] for axis in sizes], sizes.values())
        )
        what = "channels" if len(sizes) == 1 else "channels x bins"
        raise UserError(
            f"{part.file.path}: latents of {found} {what}; {checkpoint.path.name} takes {wanted}"
        )


def check_values(samples: Sequence[Sample], *, report: Report) -> None:
    """Read all that there is once. Raises UserError for what has a value that is not finite.

    Better now than in the middle of a night, when its turn comes.
    """
    report("data", 0, len(samples))
    for number, sample in enumerate(samples, 1):
        for part in sample.parts.values():
            read_part(part)
        read_features(sample.conditions)
        report("data", number, len(samples))


def check_trigger(word: str | None, samples: Iterable[Sample]) -> list[str]:
    """What there is to say of a run's trigger and its captions, a line each.

    Raises UserError where no caption contains the word: nothing would be learnt for it.
    """
    captions = [sample.caption for sample in samples if sample.caption is not None]
    if word is None or not captions:
        return []
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    num_without = sum(pattern.search(caption) is None for caption in captions)
    if num_without == len(captions):
        raise UserError(
            f"data.trigger {word!r}: none of {len(captions)} captions contains it; the first is "
            f"{shorten(captions[0], 60)!r}.\n"
            f"ltx-precompute --trigger {shlex.quote(word)} puts it in front of each"
        )
    some = f"trigger {word!r}: {num_without} of {len(captions)} captions do not contain it"
    return [some] if num_without else []
