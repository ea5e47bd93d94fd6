"""Golden components of training."""

import numpy as np

from ltx_train.schedule import learning_rates
from ltx_train.timesteps import shifted_logit_normal, uniform
from tests.parity.case import Case


def timestep_sampler(case: Case) -> dict[str, np.ndarray]:
    params = case.params
    draws = [np.array(case.inputs[f"noise.{i:03}"]) for i in range(len(params["noise_kinds"]))]
    if params["sampler"] == "uniform":
        return {"sigmas": uniform(*draws, **params["kwargs"])}
    sigmas = shifted_logit_normal(*draws, num_tokens=params["seq_length"], **params["kwargs"])
    return {"sigmas": sigmas}


def lr_schedule(case: Case) -> dict[str, np.ndarray]:
    params = case.params
    rates = learning_rates(
        params["type"], steps=params["steps"], rate=params["lr"], params=params["params"]
    )
    return {"lr": rates}


COMPONENTS = {"timestep_sampler": timestep_sampler, "lr_schedule": lr_schedule}
