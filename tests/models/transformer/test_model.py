import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from ltx_models.released import LTX_2, LTX_2_3
from ltx_models.transformer.config import TransformerConfig
from ltx_models.transformer.model import BOTH, Perturbation, Transformer
from ltx_models.transformer.timestep import Timesteps
from tests.models.transformer.sizes import small_modality, small_transformer

VERSIONS = ("ltx2", "ltx23")


@pytest.mark.parametrize(
    ("released", "num_parameters", "num_tensors"),
    [(LTX_2, 18_876_174_592, 3510), (LTX_2_3, 18_988_838_144, 4186)],
    ids=VERSIONS,
)
def test_full_size_counts(released, num_parameters, num_tensors):
    before = mx.get_active_memory()
    model = Transformer(TransformerConfig.read(released["transformer"]))
    tensors = tree_flatten(model.parameters())
    assert sum(tensor.size for _, tensor in tensors) == num_parameters
    assert len(tensors) == num_tensors
    assert mx.get_active_memory() - before < 2**20  # shapes only: nothing of 19e9 was made


def bfloat16_activations(model: Transformer, run) -> set[mx.Dtype]:
    """Types of everything that enters a linear layer while ``run`` calls the model."""
    seen: set[mx.Dtype] = set()

    class Recorder(nn.Linear):
        def __call__(self, x):
            seen.add(x.dtype)
            return super().__call__(x)

    for _, layer in model.named_modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Recorder
    run()
    return seen


@pytest.mark.parametrize("version", VERSIONS)
def test_bfloat16_weights_compute_in_bfloat16(version):
    model = small_transformer(version)
    model.set_dtype(mx.bfloat16)
    half = np.full((1, 12), 0.7)
    half[0, :6] = 0  # two distinct timesteps, so that rows are gathered
    video = small_modality(model, "video", timesteps=half)
    audio = small_modality(model, "audio")
    outputs = []
    seen = bfloat16_activations(model, lambda: outputs.extend(model(video, audio)))
    assert seen == {mx.bfloat16}
    assert {output.dtype for output in outputs} == {mx.bfloat16}


@pytest.mark.parametrize("version", VERSIONS)
def test_one_stream_alone_equals_a_model_without_the_other(version):
    both, alone = small_transformer(version), small_transformer(version, streams=("video",))
    from_both, _ = both(small_modality(both, "video"), None)
    from_one, _ = alone(small_modality(alone, "video"), None)
    assert mx.array_equal(from_both, from_one)


@pytest.mark.parametrize("version", VERSIONS)
def test_distinct_timesteps_equal_one_embedding_a_token(version):
    model = small_transformer(version)
    mixed = np.full((1, 12), 0.7)
    mixed[0, 3:7] = 0.2
    modality = small_modality(model, "video", timesteps=mixed)
    assert modality.timesteps.values.shape == (2,)
    every = Timesteps(mx.array(mixed[0]), mx.arange(12)[None])
    few, _ = model(modality, None)
    many, _ = model(modality._replace(timesteps=every), None)
    assert mx.allclose(few, many, atol=1e-6)


def only(modality, sample: int):
    """One sample of a batch of three; what has no batch axis stays."""

    def pick(leaf):
        batched = leaf is not None and leaf.shape[0] == 3
        return leaf[sample : sample + 1] if batched else leaf

    return tree_map(pick, modality)


def test_mixed_perturbations_equal_runs_one_by_one():
    model = small_transformer("ltx23")
    samples = [(), (Perturbation("video_self_attention", (1,)),), (Perturbation("audio_to_video"),)]
    together, _ = model(
        small_modality(model, "video", batch=3),
        small_modality(model, "audio", batch=3),
        perturbations=samples,
    )
    video, audio = small_modality(model, "video", batch=3), small_modality(model, "audio", batch=3)
    for i, sample in enumerate(samples):
        single, _ = model(only(video, i), only(audio, i), perturbations=[sample])
        assert mx.allclose(single[0], together[i], atol=1e-5)
    assert not mx.allclose(together[0], together[1], atol=1e-3)
    assert not mx.allclose(together[0], together[2], atol=1e-4)


@pytest.mark.parametrize("version", VERSIONS)
def test_skipping_every_stream_leaves_only_the_head(version):
    """Which norms, scales and shifts the projected latents as they came (spec/model.md 3.7)."""
    model = small_transformer(version)
    given = {stream: small_modality(model, stream) for stream in BOTH}
    still = model(given["video"], given["audio"], enabled=())
    moved = model(given["video"], given["audio"])
    for stream, got, other in zip(BOTH, still, moved, strict=True):
        at = "" if stream == "video" else "audio_"
        modality = given[stream]
        _, embedded = model[f"{at}adaln_single"](modality.timesteps.values * 1000.0)
        shift, scale = model[f"{at}scale_shift_table"] + embedded
        x = model[f"{at}patchify_proj"](modality.latents)
        centred = x - x.mean(axis=-1, keepdims=True)
        normed = centred / mx.sqrt(centred.square().mean(axis=-1, keepdims=True) + 1e-6)
        wanted = model[f"{at}proj_out"](normed * (1 + scale) + shift)
        assert mx.allclose(got, wanted, atol=1e-5)
        assert not mx.allclose(got, other, atol=1e-3)
