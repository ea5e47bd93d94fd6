"""Which files a run uses, where they are found, and how they are fetched."""

from ltx_infer.hub.find import ModelFiles, find_model, with_checkpoint
from ltx_infer.hub.names import Variant, variant_of

__all__ = ["ModelFiles", "Variant", "find_model", "variant_of", "with_checkpoint"]
