"""Attention and feed-forward as LTX-2 has them (spec/model.md 3.4).

Normed queries and keys, split rotary embedding, and in LTX-2.3 a gate per head.
Letters: B batch, T query tokens, S key tokens, H heads, D head dimension.
"""

import mlx.core as mx
import mlx.nn as nn

from ltx_models.activations import gelu
from ltx_models.transformer.rope import Rope, apply_rope

Keep = bool | mx.array  # True: compute it; False: skip it in every sample; (B, 1, 1): 1 or 0 each


class Attention(nn.Module):
    """Multi-head attention of x (B, T, dim) over a context (B, S, context_dim), or over itself."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        head_dim: int,
        context_dim: int | None = None,
        gated: bool = False,
        eps: float = 1e-6,
    ):
        super().__init__()
        inner_dim = num_heads * head_dim
        context_dim = context_dim or dim
        self.num_heads = num_heads
        self.scale = head_dim**-0.5

        self.to_q = nn.Linear(dim, inner_dim)
        self.to_k = nn.Linear(context_dim, inner_dim)
        self.to_v = nn.Linear(context_dim, inner_dim)
        self.to_out = [nn.Linear(inner_dim, dim)]  # a list, so that its key stays "to_out.0"
        self.q_norm = nn.RMSNorm(inner_dim, eps=eps)
        self.k_norm = nn.RMSNorm(inner_dim, eps=eps)
        self.to_gate_logits = nn.Linear(dim, num_heads) if gated else None

    def __call__(
        self,
        x: mx.array,
        context: mx.array | None = None,
        *,
        mask: mx.array | None = None,
        rope: Rope | None = None,
        context_rope: Rope | None = None,
        keep: Keep = True,
    ) -> mx.array:
        """Attend; the result has the shape of x.

        ``mask`` is additive, broadcast to (B, H, T, S). ``keep`` is spatio-temporal guidance's
        switch: where it is 0 the values pass straight to the gate and the output projection.
        """
        context = x if context is None else context
        values = self.to_v(context)
        out = (
            values if keep is False else self._attend(x, context, values, mask, rope, context_rope)
        )
        if isinstance(keep, mx.array):
            out = mx.where(keep > 0, out, values)
        if self.to_gate_logits is not None:
            gate = 2 * mx.sigmoid(self.to_gate_logits(x))
            out = (mx.unflatten(out, -1, (self.num_heads, -1)) * gate[..., None]).flatten(-2)
        return self.to_out[0](out)

    def _attend(
        self,
        x: mx.array,
        context: mx.array,
        values: mx.array,
        mask: mx.array | None,
        rope: Rope | None,
        context_rope: Rope | None,
    ) -> mx.array:
        q = self._split_heads(self.q_norm(self.to_q(x)))
        k = self._split_heads(self.k_norm(self.to_k(context)))
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, context_rope or rope)
        v = self._split_heads(values)
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale, mask=mask)
        return out.swapaxes(1, 2).flatten(-2)  # (B, H, T, D) to (B, T, H * D)

    def _split_heads(self, x: mx.array) -> mx.array:
        return mx.unflatten(x, -1, (self.num_heads, -1)).swapaxes(1, 2)


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), linear, with the checkpoint's keys ``net.0.proj`` and ``net.2``."""

    def __init__(self, dim: int, *, mult: int = 4):
        super().__init__()
        self.net = [_GELUProjection(dim, mult * dim), nn.Identity(), nn.Linear(mult * dim, dim)]

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, dim) to (B, T, dim)."""
        return self.net[2](self.net[0](x))


class _GELUProjection(nn.Module):
    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.proj = nn.Linear(dim, hidden_dim)

    def __call__(self, x: mx.array) -> mx.array:
        return gelu(self.proj(x))
