"""The ``audio_vae`` and ``vocoder`` sections of a configuration (spec/model.md 2.4 and 2.5)."""

from collections.abc import Collection, Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ltx_models.config import LARGEST, LayerCount, Section
from ltx_models.transformer.patchify import AudioScale

SHRINK = 4  # of time and mel bins, by a factor of 2 between two of the three levels

# The vocoder's section does not say it: each one reads the spectra of this audio VAE.
VOCODER_MEL_BINS = 64

MOST_STAGES = 20  # of a generator, and of blocks in each
Levels = Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
Sizes = Annotated[list[PositiveInt], Field(min_length=1, max_length=MOST_STAGES)]
MelBins = Annotated[int, Field(gt=0, multiple_of=SHRINK)]


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ValueError("; ".join(problems))


class Ddconfig(Section):
    """The convolutional networks, encoder and decoder alike."""

    constants: ClassVar[Mapping[str, Any]] = {
        "attn_resolutions": [],
        "causality_axis": "height",
        "double_z": True,
        "downsample_time": False,
        "dropout": 0.0,
        "mid_block_add_attention": False,
        "norm_type": "pixel",
    }
    idle: ClassVar[Collection[str]] = ("resolution",)

    ch: PositiveInt
    ch_mult: Levels
    num_res_blocks: LayerCount
    in_channels: Literal[2]  # stereo
    out_ch: Literal[2]
    z_channels: PositiveInt
    mel_bins: MelBins

    @property
    def channels(self) -> list[int]:
        """Channels of each level, the finest first."""
        return [self.ch * factor for factor in self.ch_mult]

    @model_validator(mode="after")
    def _check_widths(self) -> Self:
        if max(self.channels) > LARGEST:
            raise ValueError(f"a level has {max(self.channels)} channels; {LARGEST} at most")
        return self


class Params(Section):
    """``model.params``."""

    ddconfig: Ddconfig
    sampling_rate: PositiveInt  # of the sound that the networks are for, in Hz


class Model(Section):
    """``model``."""

    params: Params


class Audio(Section):
    """``preprocessing.audio``."""

    constants: ClassVar[Mapping[str, Any]] = {"stereo": True}
    idle: ClassVar[Collection[str]] = ("causal_padding", "duration", "max_wav_value")

    sampling_rate: PositiveInt


class Stft(Section):
    """``preprocessing.stft``, in samples."""

    constants: ClassVar[Mapping[str, Any]] = {"causal": True}

    filter_length: Annotated[int, Field(gt=0, multiple_of=2)]
    hop_length: PositiveInt
    win_length: PositiveInt


class Mel(Section):
    """``preprocessing.mel``; frequencies in Hz."""

    n_mel_channels: PositiveInt
    mel_fmin: NonNegativeFloat | None = None
    mel_fmax: PositiveFloat | None = None


class Preprocessing(Section):
    """``preprocessing``: how a waveform becomes a log-mel spectrum."""

    audio: Audio
    stft: Stft
    mel: Mel


class AudioVAEConfig(Section):
    """The section ``audio_vae``: the spectrum, and the networks between it and latents."""

    model: Model
    preprocessing: Preprocessing

    @model_validator(mode="after")
    def _agree(self) -> Self:
        before, rate = self.preprocessing, self.model.params.sampling_rate
        pairs = {
            "audio.sampling_rate": (before.audio.sampling_rate, rate),
            "stft.win_length": (before.stft.win_length, before.stft.filter_length),
            "mel.n_mel_channels": (before.mel.n_mel_channels, self.ddconfig.mel_bins),
            # The reference passes over these two and takes the whole band.
            "mel.mel_fmin": (before.mel.mel_fmin, 0),
            "mel.mel_fmax": (before.mel.mel_fmax, rate / 2),
        }
        problems = [
            f"preprocessing.{key} is {said}, but {needed} is what the other keys need"
            for key, (said, needed) in pairs.items()
            if said not in (None, needed)
        ]
        _refuse(problems)
        return self

    @property
    def ddconfig(self) -> Ddconfig:
        """Sizes of the networks."""
        return self.model.params.ddconfig

    @property
    def latent_mel_bins(self) -> int:
        """16 in every release."""
        return self.ddconfig.mel_bins // SHRINK

    @property
    def scale(self) -> AudioScale:
        """Where latent frames lie in time."""
        return AudioScale(
            sampling_rate=self.model.params.sampling_rate,
            hop_length=self.preprocessing.stft.hop_length,
            time=SHRINK,
        )


class GeneratorConfig(Section):
    """What both kinds of vocoder network have: upsampling stages, residual blocks after each."""

    upsample_initial_channel: PositiveInt
    upsample_rates: Sizes
    upsample_kernel_sizes: Sizes
    resblock_kernel_sizes: Sizes
    resblock_dilation_sizes: Annotated[list[Sizes], Field(min_length=1, max_length=MOST_STAGES)]

    @property
    def channels(self) -> list[int]:
        """Channels before the first stage and after each one, which halves them."""
        return [self.upsample_initial_channel >> i for i in range(len(self.upsample_rates) + 1)]

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        sizes, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        problems = []
        if len(rates) != len(kernels):
            problems.append(f"{len(rates)} upsample_rates, {len(kernels)} upsample_kernel_sizes")
        if len(sizes) != len(dilations):
            problems.append(
                f"{len(sizes)} resblock_kernel_sizes, {len(dilations)} resblock_dilation_sizes"
            )
        problems += [
            f"upsample_kernel_sizes: {kernel} does not fit the rate {rate}"
            for rate, kernel in zip(rates, kernels, strict=False)
            if kernel < rate or (kernel - rate) % 2
        ]
        problems += [f"resblock_kernel_sizes: {size} is even" for size in sizes if size % 2 == 0]
        if self.upsample_initial_channel % 2 ** len(rates):
            problems.append(f"upsample_initial_channel: cannot be halved {len(rates)} times")
        _refuse(problems)
        return self


class HiFiGANConfig(GeneratorConfig):
    """The section ``vocoder`` of LTX-2."""

    constants: ClassVar[Mapping[str, Any]] = {
        "resblock": "1",
        "stereo": True,
        "use_bias_at_final": True,
        "use_tanh_at_final": True,
    }

    output_sampling_rate: PositiveInt


class BigVGANConfig(GeneratorConfig):
    """One generator of LTX-2.3's vocoder."""

    constants: ClassVar[Mapping[str, Any]] = {
        "activation": "snakebeta",
        "resblock": "AMP1",
        "stereo": True,
        "apply_final_activation": True,
    }

    use_bias_at_final: bool
    use_tanh_at_final: bool = True  # else the sound is cut off at -1 and 1


class BandwidthConfig(BigVGANConfig):
    """The generator that adds the high frequencies, and the spectrum that it reads."""

    constants: ClassVar[Mapping[str, Any]] = {
        **BigVGANConfig.constants,
        "apply_final_activation": False,  # so that use_tanh_at_final has no effect here
    }

    input_sampling_rate: PositiveInt
    output_sampling_rate: PositiveInt
    hop_length: PositiveInt
    n_fft: Annotated[int, Field(gt=0, multiple_of=2)]
    win_size: PositiveInt
    num_mels: PositiveInt

    @model_validator(mode="after")
    def _fits_the_resampled_sound(self) -> Self:
        factor = prod(self.upsample_rates)
        problems = []
        if factor * self.input_sampling_rate != self.hop_length * self.output_sampling_rate:
            problems.append(
                f"upsample_rates: {factor} samples for each {self.hop_length} do not turn "
                f"{self.input_sampling_rate} Hz into {self.output_sampling_rate} Hz"
            )
        if self.win_size != self.n_fft:
            problems.append(
                f"win_size is {self.win_size}, but only n_fft, {self.n_fft}, is computed"
            )
        if self.hop_length > self.n_fft:
            problems.append(f"hop_length is {self.hop_length}, longer than n_fft, {self.n_fft}")
        _refuse(problems)
        return self


class ExtendedVocoderConfig(Section):
    """The section ``vocoder`` of LTX-2.3: a generator, and one that extends its bandwidth."""

    vocoder: BigVGANConfig
    bwe: BandwidthConfig
