"""A codebook search in two stages: 8 bits choose a few candidates, floats choose among them.

A search reads the whole table, 2 MB a level in the published codec, and is bound by that. The first
stage reads a quarter of it; the second computes the exact distance of the best few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from quant.onnx_products import CONTRIB, GraphEditor, quantize_columns

N_CANDIDATES = 8


def two_stage_search(
    editor: GraphEditor, *, half: bool, only: Callable[[str], bool] = lambda _: True
) -> None:
    """Replace the searches of a graph. half: keep the exact entries in float16; only: by table."""
    for product, node in editor.products():
        if not only(product.weight):
            continue
        readers = editor.consumers(node.output[0])
        if len(readers) != 1 or readers[0].op_type != "Sub":
            continue
        choice = editor.consumers(readers[0].output[0])
        if len(choice) == 1 and choice[0].op_type == "ArgMax":
            _replace_search(editor, product.weight, node, readers[0], choice[0], half=half)


def half_tables(editor: GraphEditor) -> None:
    """Store the tables that codes are looked up in (one row each) as float16."""
    from onnx import helper

    for node in list(editor.model.graph.node):
        table = node.input[0] if node.op_type == "Gather" else ""
        if table not in editor.constants or editor.array(table).dtype != np.float32:
            continue
        if _axis(node) != 0 or len(editor.constants[table].dims) != 2:
            continue
        stored = editor.constant(f"{table}.f16", editor.array(table).astype(np.float16))
        p = f"{node.name}/"
        new = [
            helper.make_node("Gather", [stored, node.input[1]], [p + "rows"], p + "look", axis=0),
            helper.make_node("Cast", [p + "rows"], list(node.output), p + "widen", to=1),
        ]
        editor.replace([node], new)
        editor.what[table] = "f16"


def _replace_search(
    editor: GraphEditor, table: str, product: Any, less: Any, choice: Any, *, half: bool
) -> None:
    """One level: product, subtraction of half norms and argmax become the two stages."""
    from onnx import helper

    columns = editor.array(table)  # (width, bins)
    dtype = np.float16 if half else np.float32
    rows = np.ascontiguousarray(columns.T).astype(dtype)
    half_norm = np.square(rows.astype(np.float32)).sum(1) / 2
    steps, scale = quantize_columns(columns)
    n_best = min(N_CANDIDATES, columns.shape[1])
    stored = editor.constant(f"{table}.rows", rows)
    norms = editor.constant(f"{table}.half_norm", half_norm)
    p, x = f"{product.name}/", product.input[0]
    coarse = [
        x,
        editor.constant(f"{table}.u8", steps),
        editor.constant(f"{table}.u8_scale", scale),
        editor.constant("u8.zero", np.array(128, np.uint8)),
        editor.constant(f"{table}.minus_half_norm", -half_norm),
    ]
    count = editor.constant(f"search.n_best_{n_best}", np.array([n_best], np.int64))
    flat = editor.constant("search.flat", np.array([-1], np.int64))

    def make(op: str, inputs: list[str], output: str, **kwargs: Any) -> Any:
        return helper.make_node(op, inputs, [output], p + output.removeprefix(p), **kwargs)

    best, top = p + "best", [p + "top", p + "first"]
    new = [
        make("DynamicQuantizeMatMul", coarse, p + "near", domain=CONTRIB),
        helper.make_node("TopK", [p + "near", count], top, p + "top", sorted=0),
        make("Reshape", [p + "first", flat], best),
        *_look(stored, best, p + "candidates", p, half=half),
        make("Gather", [norms, best], p + "norms", axis=0),
        make("FusedMatMul", [x, p + "candidates"], p + "dots", domain=CONTRIB, transB=1),
        make("Sub", [p + "dots", p + "norms"], p + "closeness"),
        make("ArgMax", [p + "closeness"], p + "which", axis=1, keepdims=0),
        make("Gather", [best, p + "which"], choice.output[0], axis=0),
    ]
    editor.replace([product, less, choice], new)
    editor.what[table] = "u8+f16" if half else "u8+f32"
    for lookup in editor.consumers(table):
        if lookup.op_type == "Gather" and _axis(lookup) == 1:
            (turn,) = editor.consumers(lookup.output[0])
            rows_of = _look(stored, lookup.input[1], turn.output[0], f"{lookup.name}/", half=half)
            editor.replace([lookup, turn], rows_of)


def _look(table: str, index: str, out: str, prefix: str, *, half: bool) -> list[Any]:
    """Rows of a table as float32."""
    from onnx import helper

    if not half:
        return [helper.make_node("Gather", [table, index], [out], prefix + "rows", axis=0)]
    return [
        helper.make_node("Gather", [table, index], [prefix + "rows"], prefix + "rows", axis=0),
        helper.make_node("Cast", [prefix + "rows"], [out], prefix + "widen", to=1),
    ]


def _axis(node: Any) -> int:
    """The axis of a Gather; 0 where it is not said."""
    return next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 0)
