import numpy as np
import pytest

from ltx_train.schedule import PARAMETERS, SCHEDULES, learning_rates


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_every_schedule_begins_at_the_rate_and_never_rises_above(kind, steps):
    rates = learning_rates(kind, steps=steps, rate=1e-3)
    assert rates.shape == (steps,)
    assert rates[0] == pytest.approx(1e-3)
    assert (rates <= 1e-3 + 1e-9).all()
    assert (rates >= 0).all()


def test_linear_is_on_its_way_to_a_tenth():
    rates = learning_rates("linear", steps=10, rate=1.0)
    assert rates[-1] == pytest.approx(0.19)  # a tenth itself would be step 10


def test_restarts_begin_anew_each_quarter():
    rates = learning_rates("cosine_with_restarts", steps=40, rate=1e-3)
    assert np.flatnonzero(rates == rates[0]).tolist() == [0, 10, 20, 30]
    assert rates[9] > 5e-5
    shorter = learning_rates("cosine_with_restarts", steps=40, rate=1e-3, params={"T_0": 5})
    assert np.flatnonzero(shorter == shorter[0]).tolist() == list(range(0, 40, 5))
    params = {"T_0": 3, "T_mult": 2, "eta_min": 1e-5}
    longer = learning_rates("cosine_with_restarts", steps=12, rate=1e-3, params=params)
    assert np.flatnonzero(longer == longer[0]).tolist() == [0, 3, 9]
    assert longer[8] == pytest.approx(7.631742513e-05)  # PyTorch's CosineAnnealingWarmRestarts


def test_restarts_that_get_shorter_have_no_end():
    params = {"T_mult": 0.5}
    assert np.isnan(learning_rates("cosine_with_restarts", steps=4, rate=1.0, params=params)).all()


def test_parameters_are_those_of_the_functions():
    for kind, names in PARAMETERS.items():
        changed = learning_rates(kind, steps=8, rate=1.0, params=dict.fromkeys(names, 0.5))
        assert not names or not np.array_equal(changed, learning_rates(kind, steps=8, rate=1.0))
    assert PARAMETERS.keys() == SCHEDULES.keys()


def test_nonsense_shows_as_a_rate_that_is_none():
    assert learning_rates("linear", steps=4, rate=1.0, params={"end_factor": -1}).min() < 0
    assert np.isnan(learning_rates("step", steps=4, rate=1.0, params={"step_size": 0.0})).any()
