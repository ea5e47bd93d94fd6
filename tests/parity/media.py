"""Golden components of given pictures and videos."""

import numpy as np

from ltx_infer.media.masks import token_weights
from ltx_infer.media.resize import temporal_subsample, to_pixels
from tests.parity.case import Case


def image_preprocess(case: Case) -> dict[str, np.ndarray]:
    pictures = np.array(case.inputs["image_u8"])
    height, width = case.params["height"], case.params["width"]
    frames = pictures if "frames" in case.params else pictures[None]
    return {"image": to_pixels(frames, height=height, width=width)}


def mask_downsample(case: Case) -> dict[str, np.ndarray]:
    mask = np.array(case.inputs["mask"])
    return {"weights": token_weights(mask, grid=tuple(case.params["latent_fhw"]))}


def subsample(case: Case) -> dict[str, np.ndarray]:
    video = np.array(case.inputs["video"])
    return {"video": temporal_subsample(video, factor=case.params["factor"])}


COMPONENTS = {
    "image_preprocess": image_preprocess,
    "mask_downsample": mask_downsample,
    "temporal_subsample": subsample,
}
