"""ONNX graphs written node by node, their large weights streamed to a file beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

OPSET = 18
MICROSOFT = "com.microsoft"
_INLINE_BYTES = 1024  # weights up to this size stay in the graph itself
_PAGE_BYTES = 4096  # onnxruntime maps weights that begin on a page


class WeightFile:
    """The file beside a graph that its large weights are written to, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: BinaryIO = path.open("wb")

    def add(self, name: str, array: NDArray[Any]) -> onnx.TensorProto:
        """Write a weight; what the graph says of it. Small ones stay in the graph itself."""
        import onnx

        if array.nbytes <= _INLINE_BYTES:
            return onnx.numpy_helper.from_array(array, name)
        self._data.write(bytes(-self._data.tell() % _PAGE_BYTES))
        tensor = onnx.TensorProto(
            name=name,
            dims=array.shape,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in (
            ("location", self._path.name),
            ("offset", str(self._data.tell())),
            ("length", str(array.nbytes)),
        ):
            tensor.external_data.add(key=key, value=value)
        self._data.write(np.ascontiguousarray(array).data.cast("B"))
        return tensor

    def close(self) -> None:
        """End the file."""
        self._data.close()


class GraphWriter:
    """Collects nodes and weights; nothing large is held: a weight goes to the file at once."""

    def __init__(self, data_path: Path) -> None:
        """Begin a graph whose weights go to data_path; close() or save() ends it."""
        import onnx

        self._onnx = onnx
        self._data = WeightFile(data_path)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._n_values = 0

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """Declare an input; a shape's strings are free dimensions."""
        self._inputs.append(self._value_info(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: type[np.generic], shape: Sequence[int]) -> None:
        """Give a value out under a name."""
        self.node("Identity", [value], output=name)
        self._outputs.append(self._value_info(name, dtype, shape))

    def constant(self, values: NDArray[Any] | Sequence[int] | int) -> str:
        """A small constant; integers become int64. Equal ones are stored once."""
        array = np.asarray(values)
        if array.dtype.kind == "i":
            array = array.astype(np.int64)
        key = f"const_{array.dtype.name}_{array.shape}_{array.tobytes().hex()[:96]}"
        return self.weight(key, array)

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """A weight under its name, written on first use."""
        if name not in self._weights:
            self._weights[name] = self._data.add(name, array)
        return name

    def has_weight(self, name: str) -> bool:
        """Whether a weight of this name was written already."""
        return name in self._weights

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        *,
        name: str = "",
        output: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node with one output and return that."""
        return self.nodes(kind, inputs, [output or ""], name=name, domain=domain, **attributes)[0]

    def nodes(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: int | Iterable[str],
        *,
        name: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several outputs: how many, or their names ("" to make one up)."""
        names = [""] * outputs if isinstance(outputs, int) else list(outputs)
        made = [given or self._fresh(kind) for given in names]
        self._nodes.append(
            self._onnx.helper.make_node(
                kind, inputs, made, name=name or made[0], domain=domain, **attributes
            )
        )
        return made

    def save(self, path: Path, name: str) -> None:
        """Write the graph. Its data file must lie beside it under the name it has now."""
        helper = self._onnx.helper
        self._data.close()
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._weights.values())
        )
        model = helper.make_model(
            graph,
            producer_name="edgevoice",
            ir_version=10,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        )
        path.write_bytes(model.SerializeToString())

    def close(self) -> None:
        """Let go of the data file where no graph was saved."""
        self._data.close()

    def _fresh(self, kind: str) -> str:
        self._n_values += 1
        return f"{kind.lower()}_{self._n_values}"

    def _value_info(
        self, name: str, dtype: type[np.generic], shape: Sequence[int | str]
    ) -> onnx.ValueInfoProto:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))
