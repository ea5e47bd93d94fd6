import mlx.core as mx
import pytest

from ltx_models import peak

MB = 1 << 20


def hold(num_mb: int) -> None:
    array = mx.zeros((num_mb * MB,), mx.uint8)
    mx.eval(array)


def test_a_part_knows_its_own_peak_and_the_whole_knows_all():
    before = mx.get_active_memory()
    with peak.measured() as whole:
        first = peak.begin()
        hold(64)
        of_first = peak.end(first) - before
        with peak.measured() as second:
            hold(16)
        hold(32)
    assert of_first == pytest.approx(64 * MB, rel=0.1)
    assert second.num_bytes - before == pytest.approx(16 * MB, rel=0.1)
    assert whole.num_bytes - before == pytest.approx(64 * MB, rel=0.1)
    hold(128)
    assert peak.end(first) - before == of_first  # it ended


def test_what_is_held_already_counts():
    array = mx.zeros((8 * MB,), mx.uint8)
    mx.eval(array)
    with peak.measured() as found:
        pass
    assert found.num_bytes >= array.nbytes
