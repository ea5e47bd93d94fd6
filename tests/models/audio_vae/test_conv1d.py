import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_models.audio_vae.conv1d import SameConv1d, Upsample1d


@settings(max_examples=30, deadline=None)
@given(
    kernel_size=st.sampled_from([1, 3, 7]),
    dilation=st.integers(1, 5),
    length=st.integers(1, 30),
    batch=st.integers(1, 2),
)
def test_dilated_convolution(kernel_size, dilation, length, batch):
    mx.random.seed(0)
    layer = SameConv1d(3, 4, kernel_size, dilation=dilation)
    layer.bias = mx.arange(4.0)
    x = mx.random.normal((batch, length, 3))
    padding = dilation * (kernel_size - 1) // 2
    want = mx.conv1d(x, layer.weight, padding=padding, dilation=dilation) + layer.bias
    assert layer(x).shape == want.shape
    assert mx.allclose(layer(x), want, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 3])
def test_convolution_without_bias(dilation):
    layer = SameConv1d(3, 4, 7, dilation=dilation, bias=False)
    assert set(layer.parameters()) == {"weight"}
    assert not layer(mx.zeros((1, 9, 3))).any()


@settings(max_examples=30, deadline=None)
@given(
    rate=st.integers(1, 6),
    spare=st.integers(0, 5),
    length=st.integers(1, 12),
    batch=st.integers(1, 2),
)
def test_transposed_convolution(rate, spare, length, batch):
    mx.random.seed(0)
    layer = Upsample1d(3, 4, rate + 2 * spare, rate=rate)
    layer.bias = mx.arange(4.0)
    x = mx.random.normal((batch, length, 3))
    want = mx.conv_transpose1d(x, layer.weight, stride=rate, padding=spare) + layer.bias
    assert layer(x).shape == want.shape == (batch, rate * length, 4)
    assert mx.allclose(layer(x), want, atol=1e-5)
