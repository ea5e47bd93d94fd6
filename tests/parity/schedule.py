"""Golden components of sampling."""

import numpy as np

from ltx_infer.sampling.sigmas import DISTILLED, REFINE, shifted
from tests.parity.case import Case


def sigma_table(name: str, **kwargs) -> tuple[float, ...]:
    if name != "ltx2":
        return {"distilled": DISTILLED, "distilled_stage2": REFINE}[name]
    if not kwargs.pop("stretch", True):
        kwargs["terminal"] = None
    if "tokens" in kwargs:
        kwargs["num_tokens"] = kwargs.pop("tokens")
    return shifted(kwargs.pop("steps"), **kwargs)


def scheduler(case: Case) -> dict[str, np.ndarray]:
    tables = [sigma_table(call["name"], **call.get("kwargs", {})) for call in case.params["calls"]]
    return {f"{i:02}": np.array(table, np.float32) for i, table in enumerate(tables)}


COMPONENTS = {"scheduler": scheduler}
