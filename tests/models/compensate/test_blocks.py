"""Layers are fitted to what they are given in a calibration run, one block at a time."""

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from ltx_models.checkpoint import Checkpoint, open_checkpoint
from ltx_models.compensate.blocks import ROWS, compensated, layer_inputs
from ltx_models.compensate.calibrate import LEVELS, grid, samples
from ltx_models.compensate.fit import Compensated, compensate
from ltx_models.compensate.linear import make_compensated
from ltx_models.converted.fusing import plan_fusing
from ltx_models.converted.layout import TRANSFORMER
from ltx_models.lora.adapters import Strength
from ltx_models.lora.files import read_lora
from ltx_models.quantize import Quantization, is_quantised, quantization, quantize
from ltx_models.text_encoder.encode import PromptContext
from ltx_models.tiny import CHECKPOINT_FILE, GEMMA_FOLDER, LORA_FILE
from ltx_models.transformer import load_transformer
from ltx_models.transformer.model import BOTH, Modality, Transformer
from ltx_models.transformer.streamed import stream_blocks
from tests.models.converted.folders import golden
from tests.models.transformer.sizes import small_modality
from tests.models.transformer.test_streamed import saved

SIZE = (3, 2, 2)
HOW = quantization(4)


def loaded(checkpoint: Checkpoint) -> Transformer:
    return load_transformer(checkpoint, dtype=mx.float32)


def contexts(checkpoint: Checkpoint, count: int, *, seed: int = 0) -> list[PromptContext]:
    """Random, as long as a few words."""
    config = loaded(checkpoint).config
    widths = config.cross_attention_dim, config.audio_cross_attention_dim
    if config.feature_version == "V1":
        widths = config.caption_channels, config.caption_channels
    keys = mx.random.split(mx.random.key(seed), 2 * count)
    drawn = [mx.random.normal((1, 7, widths[i % 2]), key=key) for i, key in enumerate(keys)]
    return [PromptContext(*pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]


def layers_of(checkpoint: Checkpoint, *names: str) -> dict[str, Quantization]:
    """Those that are quantised, or some by the ends of their paths."""
    infos = checkpoint.file.infos
    found = {}
    for key in checkpoint.file.keys(TRANSFORMER):
        path = key.removesuffix(".weight")
        if path != key and is_quantised(path, infos[TRANSFORMER + key].shape, HOW):
            found[path] = HOW
    return {path: how for path, how in found.items() if not names or path.endswith(names)}


def small_samples(model: Transformer, checkpoint: Checkpoint, count: int = 2) -> list[Modality]:
    return samples(model, contexts(checkpoint, count), grid(checkpoint, SIZE))


def answers(model: Transformer, given: list[Modality]) -> list[mx.array]:
    return [velocity for velocity in model(*given) if velocity is not None]


def off(got: list[mx.array], wanted: list[mx.array]) -> float:
    return max(
        (mx.linalg.norm(a - b) / mx.linalg.norm(b)).item() for a, b in zip(got, wanted, strict=True)
    )


def put(model: Transformer, found: dict[str, Compensated]) -> None:
    """Store layers of a float model as they were found."""
    assert quantize(model, HOW) == len(found) > 0
    make_compensated(model, {path: len(layer.A) for path, layer in found.items()})
    layers = dict(model.named_modules())
    for path, layer in found.items():
        layers[path].update(layer.tensors())


def test_samples_are_euler_steps_of_every_prompt_from_noise():
    checkpoint = golden("ltx2.3-tiny")
    model, positions = loaded(checkpoint), grid(checkpoint, SIZE)
    told = contexts(checkpoint, 2)
    video, audio = samples(model, told, positions)
    num_tokens = SIZE[0] * SIZE[1] * SIZE[2]
    assert video.latents.shape == (2 * len(LEVELS), num_tokens, model.config.in_channels)
    assert audio.latents.shape[0] == 2 * len(LEVELS)
    assert video.sigma.tolist() == pytest.approx([x for level in LEVELS for x in (level, level)])
    velocities = answers(model, [video, audio])
    for stream, velocity in zip((video, audio), velocities, strict=True):
        for number in range(len(LEVELS) - 1):
            here, there = (slice(2 * n, 2 * n + 2) for n in (number, number + 1))
            step = (LEVELS[number + 1] - LEVELS[number]) * velocity[here]
            assert mx.allclose(stream.latents[there], stream.latents[here] + step, atol=1e-4)


def test_inputs_are_those_of_the_layer_and_the_model_is_as_before():
    checkpoint = golden("ltx2.3-tiny")
    model = loaded(checkpoint)
    given = small_samples(model, checkpoint)
    before, modules = answers(model, given), dict(model.named_modules())
    seen, at = {}, "transformer_blocks.1."
    paths = [f"{at}attn1.{name}" for name in ("to_q", "to_k", "to_out.0")]
    for path, layer, inputs in layer_inputs(model, given, dict.fromkeys(paths)):
        assert layer is modules[path]
        seen[path] = inputs
    assert list(seen) == paths
    assert mx.array_equal(seen[paths[0]], seen[paths[1]])
    tokens = given[0].latents.shape[0] * given[0].latents.shape[1]
    step = max(tokens // (ROWS * seen[paths[0]].shape[1]), 1)
    assert seen[paths[0]].shape[0] == len(range(0, tokens, step))
    assert all(layer is modules[path] for path, layer in model.named_modules())
    assert off(answers(model, given), before) == 0


def test_a_streamed_model_gives_the_same_inputs(tmp_path):
    checkpoint = golden("ltx2.3-tiny")
    resident, streamed = loaded(checkpoint), loaded(checkpoint)
    stream_blocks(streamed, checkpoint)
    given = small_samples(streamed, checkpoint)
    paths = dict.fromkeys(layers_of(checkpoint))
    found = {path: inputs for path, _, inputs in layer_inputs(streamed, given, paths)}
    wanted = {path: inputs for path, _, inputs in layer_inputs(resident, given, paths)}
    assert found.keys() == wanted.keys() == paths.keys()
    assert all(mx.allclose(found[path], wanted[path], atol=1e-4) for path in paths)


def test_memory_is_that_of_two_blocks(tmp_path):
    """In bfloat16 on disk and float32 in memory; weights are much larger than activations."""
    sizes = {"num_layers": 12, "attention_head_dim": 64, "cross_attention_dim": 128}
    sizes["connector_attention_head_dim"] = 64
    checkpoint = saved(tmp_path / "a.safetensors", "ltx23", **sizes)
    model = loaded(checkpoint)
    tensors = tree_flatten(model.parameters())
    block = sum(x.nbytes for key, x in tensors if key.startswith("transformer_blocks.")) // 12
    rest = sum(x.nbytes for _, x in tensors) - 12 * block
    del model, tensors
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model = loaded(checkpoint)
    stream_blocks(model, checkpoint)
    given = [small_modality(model, name) for name in BOTH]
    paths = dict.fromkeys(layers_of(checkpoint))
    count = sum(1 for _ in layer_inputs(model, given, paths))
    assert count == len(paths) == 12 * 14
    assert mx.get_peak_memory() - before < rest + 2 * block


@pytest.mark.parametrize("model", ["ltx2-tiny", "ltx2.3-tiny"])
def test_a_compensated_transformer_is_nearer_to_the_float_one(model):
    """On samples of other prompts."""
    checkpoint = golden(model)
    exact, plain, better = (loaded(checkpoint) for _ in range(3))
    given = small_samples(exact, checkpoint)
    layers = layers_of(checkpoint)
    found = {
        path: compensate(layer.weight, inputs, HOW, 8, rounds=1)
        for path, layer, inputs in layer_inputs(exact, given, layers)
    }
    assert quantize(plain, HOW) == len(found) > 0
    put(better, found)
    other = samples(exact, contexts(checkpoint, 2, seed=9), grid(checkpoint, SIZE))
    wanted = answers(exact, other)
    assert off(answers(better, other), wanted) < 0.8 * off(answers(plain, other), wanted)


@pytest.mark.slow
def test_the_stand_in_is_compensated_with_a_lora_in_its_weights(tmp_path, tiny):
    """Encoded prompts, streamed blocks; what is left of a run gives the same once more."""
    checkpoint = open_checkpoint(tiny / CHECKPOINT_FILE)
    gemma, loras = tiny / GEMMA_FOLDER, [(read_lora(tiny / LORA_FILE), Strength(1.0))]
    layers, fusing = layers_of(checkpoint, "attn1.to_q", "ff.net.2"), plan_fusing(checkpoint, loras)
    found = dict(compensated(checkpoint, gemma, layers, 8, dtype=mx.float32, fusing=fusing))
    assert list(found) == list(layers)
    weights = checkpoint.file.tensors(TRANSFORMER, [f"{path}.weight" for path in layers])
    for path, layer in found.items():
        key = f"{path}.weight"
        wanted = fusing.changed(TRANSFORMER + key, weights[key])
        own = off([weights[key].astype(mx.float32)], [wanted])
        assert off([layer.floats(HOW)], [wanted]) < 0.1
        assert (own > 0.1) == path.endswith("to_q")
    last = dict(list(layers.items())[-2:])
    again = dict(compensated(checkpoint, gemma, last, 8, dtype=mx.float32, fusing=fusing))
    assert again.keys() == last.keys()
    for path, layer in again.items():
        for name, value in layer.tensors().items():
            assert mx.array_equal(value, found[path].tensors()[name])
