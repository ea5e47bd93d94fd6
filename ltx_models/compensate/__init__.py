"""Low-rank adapters, stored beside quantised weights, that make up for the worst of their error.

For the writer of a converted folder: ``blocks.compensated`` gives, block after block in their order
and reading one block of the float checkpoint at a time, what each quantised layer is stored as:

    for path, layer in compensated(checkpoint, gemma, layers, rank, dtype=compute_dtype()):
        layer.tensors()  # weight, scales, biases (affine), compensation_A, compensation_B

``layers`` maps paths as "transformer_blocks.0.attn1.to_q" to how each is quantised. The weight is
packed already, and not as ``mx.quantize`` of the float weight would have it: the two are fitted to
each other. ``fit.shapes`` gives the shapes of compensation_A (rank, in) and _B (out, rank),
bfloat16, beforehand. A run that is repeated gives the same numbers; of one that goes on, pass the
layers that are left. ``load_transformer`` compensates each layer that has a compensation_A.
"""
