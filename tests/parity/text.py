"""Golden components of the text path."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from ltx_models.text_encoder.connector import connector_rope as rope_of_connector
from ltx_models.text_encoder.connector import load_connectors
from ltx_models.text_encoder.encode import encode_prompts
from ltx_models.text_encoder.features import load_feature_extractor
from ltx_models.text_encoder.gemma import hidden_states, load_gemma
from ltx_models.text_encoder.gemma_config import read_gemma_config
from ltx_models.text_encoder.tokenizer import load_tokenizer, tokenize
from ltx_models.transformer.config import TransformerConfig
from tests.parity.case import Case, read_index

Arrays = Mapping[str, mx.array | np.ndarray]


def gemma_folder(case: Case) -> Path:
    """The Gemma of a golden folder: its one checkpoint that is a folder."""
    named = read_index(case.folder)["checkpoints"].values()
    (folder,) = {case.folder / name for name in named if (case.folder / name).is_dir()}
    return folder


def gemma(case: Case) -> Arrays:
    """Our rows hold valid tokens only; the reference's are padded on the left."""
    folder, length, keep = (
        case.folder / case.checkpoint_file,
        case.params["max_length"],
        case.params["keep"],
    )
    tokenizer = load_tokenizer(folder)
    model = load_gemma(folder, read_gemma_config(folder), dtype=mx.float32)
    rows = []
    for prompt in case.params["prompts"]:
        ids = tokenize(tokenizer, prompt, max_length=length)
        pads = length - len(ids)
        states = mx.pad(hidden_states(model, ids), ((0, 0), (pads, 0), (0, 0)))[:, -keep:]
        padded = np.array([tokenizer.token_to_id("<pad>")] * pads + ids)
        rows.append((padded, np.array([0] * pads + [1] * len(ids)), np.array(states)))
    names = ("input_ids", "attention_mask", "hidden_states")
    return {name: np.stack(row) for name, row in zip(names, zip(*rows, strict=True), strict=True)}


def feature_extractor(case: Case) -> Arrays:
    valid = np.flatnonzero(case.inputs["attention_mask"])
    config = read_gemma_config(gemma_folder(case))
    extractor = load_feature_extractor(case.checkpoint, config, dtype=mx.float32)
    found = {}
    for name, features in (
        extractor(case.inputs["hidden_states"][:, mx.array(valid)])._asdict().items()
    ):
        found[name] = np.zeros((len(case.inputs["attention_mask"]), features.shape[-1]), np.float32)
        found[name][valid] = features
    return found


def connectors(case: Case) -> Arrays:
    mask = np.array(case.inputs["attention_mask"])
    valid, rows = mx.array(np.flatnonzero(mask)), mx.array(case.params["rows"])
    loaded = load_connectors(case.checkpoint, dtype=mx.float32)
    video = loaded.video(case.inputs["video_features"][valid][None], length=mask.size)
    audio = loaded.audio(case.inputs["audio_features"][valid][None], length=mask.size)
    return {
        "video_context": video[0, rows],
        "audio_context": audio[0, rows],
        "context_mask": np.ones(video.shape[1], np.int32),
    }


def text_full(case: Case) -> Arrays:
    prompts, rows = case.params["prompts"], mx.array(case.params["rows"])
    contexts = encode_prompts(
        gemma_folder(case),
        case.checkpoint,
        prompts,
        max_length=case.params["max_length"],
        dtype=mx.float32,
    )
    return {
        "video_context": mx.concatenate([each.video for each in contexts])[:, rows],
        "audio_context": mx.concatenate([each.audio for each in contexts])[:, rows],
        "context_mask_sum": np.array([each.video.shape[1] for each in contexts]),
    }


def connector_rope(case: Case) -> Arrays:
    """The ``rope`` cases whose params.tables is ["connector"]."""
    config = case.checkpoint.section("transformer", TransformerConfig)
    found = {}
    sizes = {"video_connector": config.connector, "audio_connector": config.audio_connector}
    for name, size in sizes.items():
        table = rope_of_connector(config, size, length=case.params["length"])
        found[f"{name}.cos"], found[f"{name}.sin"] = table
    return found


COMPONENTS = {
    "gemma": gemma,
    "feature_extractor": feature_extractor,
    "connectors": connectors,
    "text_full": text_full,
}
