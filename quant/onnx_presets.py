"""Presets for a Mimi graph: which product becomes what. Recipes name them as "preset:int8".

float        as exported.
transparent  the decoder's transformer in 8 bits, codebooks searched in two stages: keeps codes,
             which even 8 bits in the encoder change by some in a hundred.
int8         also the convolutions that are bound by memory; the decoder's keep 16-bit activations.
tiny         4-bit weights and float16 codebooks, for the size of the files.
"""

from __future__ import annotations

from quant.onnx_products import Product, Scheme, to_q4, to_u8, to_u8x16

PRESETS = ("float", "transparent", "int8", "tiny")

# Products narrower than this cost nothing and lose much. With more rows than these figures the
# arithmetic is the limit, not the memory, and float is as fast. Limbs need a dozen small nodes
# around them: a matrix must be large for that to pay.
_MIN_IN, _MIN_OUT = 64, 16
_MAX_ROWS_U8, _MAX_ROWS_LIMBS, _MIN_WEIGHTS_LIMBS = 96, 4, 1 << 20


def scheme_for(recipe: str, side: str, product: Product) -> Scheme | None:
    """What a recipe makes of one product; None leaves it float.

    side: "encoder" or "decoder". A decoder's convolution never gets 8-bit activations.
    """
    n_in, n_out = product.shape
    if recipe == "float" or n_in < _MIN_IN or n_out < _MIN_OUT or product.weight.endswith(".turn"):
        return None
    in_transformer = "_transformer." in product.weight
    if recipe == "tiny":
        return to_q4(float_activations=side == "decoder" and not in_transformer)
    if recipe == "transparent" and side == "encoder":
        return None
    if in_transformer:
        return to_u8
    if recipe == "transparent":
        return None
    if side == "encoder":
        return to_u8 if product.rows <= _MAX_ROWS_U8 else None
    if product.rows > _MAX_ROWS_LIMBS or n_in * n_out < _MIN_WEIGHTS_LIMBS:
        return None
    return to_u8x16
