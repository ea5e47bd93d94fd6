"""What the networks are."""

import os

from ltx_models import blas

# Both before any import of mlx.core, which reads them once.
blas.load()
# MLX lets CUDA and the M5 round factors of float32 products to TF32's 10 bits. What is float32 here
# (the vocoder, the samplers' state) is so for its precision; bfloat16 is not concerned.
os.environ.setdefault("MLX_ENABLE_TF32", "0")
