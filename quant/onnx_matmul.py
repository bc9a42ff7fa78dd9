"""Matrices of an ONNX graph in 4 or 8 bits: MatMul becomes onnxruntime's MatMulNBits.

Weights are quantized in blocks along the input, symmetrically; activations are made int8 on the
fly by the kernel. One matrix is held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ArtifactError, UsageError
from export.graph_writer import MICROSOFT, WeightFile

if TYPE_CHECKING:
    import onnx

Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 32
_INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level
_MIN_ELEMENTS = 1 << 10  # smaller matrices are not worth it
_FACTORS = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76, 1.03, 1.06)  # the first wins a tie

# Gives 4, 8 or 0 (stay float) for the name of a matrix.
BitsOf = Callable[[str], int]


def quantize_matmuls(
    source: Path, target: Path, bits_of: BitsOf, *, block: int = BLOCK,
    importance: Mapping[str, Float32] = MappingProxyType({}),
) -> dict[str, str]:  # fmt: skip
    """Write target (and target + ".data") with every constant MatMul matrix as bits_of says.

    A matrix whose rows are no multiple of the block stays float. importance: of a matrix's inputs,
    by its name, for quantize_blocks(). Returns what each weight has become, such as "int4". Raises
    ArtifactError where the graph cannot be read, UsageError.
    """
    import onnx

    try:
        model = onnx.load(str(source), load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise ArtifactError(f"{source.name}: not an ONNX graph; export it again") from error
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    bits = _choose(model.graph.node, weights, bits_of, block)
    kept: list[onnx.TensorProto] = []
    became: dict[str, str] = {}
    data = WeightFile(target.with_name(f"{target.name}.data"))
    try:
        for name, tensor in weights.items():
            array = read_weight(tensor, source.parent)
            if name not in bits:
                kept.append(data.add(name, array))
                became[name] = str(array.dtype)
                continue
            rows = np.ascontiguousarray(array.T)
            packed, scales = quantize_blocks(
                rows, bits[name], block, importance=importance.get(name)
            )
            kept += [data.add(f"{name}.blocks", packed), data.add(f"{name}.scales", scales)]
            became[name] = f"int{bits[name]}"
    finally:
        data.close()
    shapes = {name: tuple(weights[name].dims) for name in bits}
    nodes = [_replace(node, bits, shapes, block) for node in model.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    if MICROSOFT not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    target.write_bytes(model.SerializeToString())
    return became


def quantize_blocks(
    weight: Float32, bits: int, block: int = BLOCK, *, importance: Float32 | None = None
) -> tuple[Bytes, Float32]:
    """A matrix float32 (n_out, n_in) as MatMulNBits wants it.

    Returns blocks uint8 (n_out, n_in / block, block * bits / 8) and scales float32
    (n_out * n_in / block,). Values are (code - 2**(bits-1)) * scale; the value furthest from 0 in
    a block is met exactly. importance: float32 (n_in,), how much each input's error matters; each
    block then takes the scale near that one with the least error of the product.
    """
    n_out, n_in = weight.shape
    blocks = weight.reshape(n_out, n_in // block, block)
    half = 1 << (bits - 1)
    at = np.abs(blocks).argmax(axis=2, keepdims=True)
    furthest = np.take_along_axis(blocks, at, axis=2)
    scales = (furthest / np.float32(-half)).astype(np.float32)
    if importance is not None:
        scales = _best_scales(blocks, scales, half, importance.reshape(1, -1, block))
    codes = _codes(blocks, scales, half)
    if bits == 4:
        codes = np.asarray(codes[..., 0::2] | (codes[..., 1::2] << 4), np.uint8)
    return codes, scales.reshape(-1)


def _codes(blocks: Float32, scales: Float32, half: int) -> Bytes:
    inverse = np.where(scales == 0, 0, 1 / np.where(scales == 0, 1, scales))
    codes: Bytes = np.clip(np.rint(blocks * inverse) + half, 0, 2 * half - 1).astype(np.uint8)
    return codes


def _best_scales(blocks: Float32, scales: Float32, half: int, importance: Float32) -> Float32:
    """For each block the factor of its scale whose rounding costs the product least."""
    best, least = scales, np.full(scales.shape, np.inf, np.float32)
    for factor in _FACTORS:
        tried = (scales * np.float32(factor)).astype(np.float32)
        error = (_codes(blocks, tried, half).astype(np.float32) - half) * tried - blocks
        cost = (error * error * importance).sum(axis=2, keepdims=True)
        best = np.where(cost < least, tried, best)
        least = np.minimum(cost, least)
    return best


def dequantize_blocks(packed: Bytes, scales: Float32, bits: int) -> Float32:
    """The matrix float32 (n_out, n_in) that quantize_blocks() stands for."""
    codes = packed
    if bits == 4:
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    values = codes.astype(np.float32) - np.float32(1 << (bits - 1))
    scaled: Float32 = values * scales.reshape(*packed.shape[:2], 1)
    return scaled.reshape(len(packed), -1)


def read_weight(tensor: onnx.TensorProto, folder: Path) -> NDArray[Any]:
    """A weight of a graph that was loaded without its external data; mapped where it is outside."""
    import onnx

    where = {entry.key: entry.value for entry in tensor.external_data}
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return onnx.numpy_helper.to_array(tensor)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    path = folder / Path(where["location"]).name
    try:
        return np.memmap(path, dtype, "r", int(where.get("offset", "0")), tuple(tensor.dims))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path.name}: cut short or missing; export it again") from error


def _choose(
    nodes: Any, weights: Mapping[str, onnx.TensorProto], bits_of: BitsOf, block: int
) -> dict[str, int]:
    """The matrices to quantize, and to how many bits."""
    chosen: dict[str, int] = {}
    for node in nodes:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            continue
        name, dims = node.input[1], tuple(weights[node.input[1]].dims)
        if len(dims) != 2 or dims[0] % block or dims[0] * dims[1] < _MIN_ELEMENTS:
            continue
        bits = bits_of(name)
        if bits not in (0, 4, 8):
            raise UsageError(f"{name}: matrices can have 4 or 8 bits, not {bits}")
        if bits:
            chosen[name] = bits
    return chosen


def _replace(
    node: onnx.NodeProto,
    bits: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    block: int,
) -> onnx.NodeProto:
    """A MatMul with a quantized matrix as MatMulNBits; any other node as it is."""
    import onnx

    if node.op_type != "MatMul" or node.input[1] not in bits:
        return node
    name = node.input[1]
    n_in, n_out = shapes[name]
    return onnx.helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{name}.blocks", f"{name}.scales"],
        list(node.output),
        name=node.name,
        domain=MICROSOFT,
        K=n_in,
        N=n_out,
        bits=bits[name],
        block_size=block,
        accuracy_level=_INT8_ACTIVATIONS,
    )
