"""`edge quantize plan`: what a recipe would give, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edge.errors import UsageError
from edge.frame import FRAME_MS
from quant.onnx_weights import PRECISIONS, rounded
from quant.recipe import BUILT_IN, Recipe, load_recipe
from quant.resolve import PRESET, STAGED, Choice, Resolved, resolve
from quant.subject import Subject
from quant.values import Values, sqnr_db
from runtime.backends.ggml import Ggml
from runtime.plan import DEFAULT_SHARE, HEADROOM

_SAMPLE_ROWS = 16
_COMPUTE_BYTES = 60 << 20  # buffers, libraries and Python beside the weights
# Memory bandwidth and memory of machines as their makers name them: to plan for one that is not
# here. `edge plan` measures the one that is.
DEVICES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "rpi4": (6.0, 4.0),
        "rpi5": (17.0, 8.0),
        "jetson-orin-nano": (68.0, 8.0),
        "jetson-agx-orin": (204.8, 32.0),
        "laptop-ddr5": (60.0, 16.0),
        "apple-m2": (100.0, 16.0),
        "rtx-3060": (360.0, 12.0),
        "rtx-4090": (1008.0, 24.0),
    }
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """A dry run. frame_bytes: what one frame reads. frame_ms: None where no device was named.

    why: what is in the way where it does not fit, "" where it does. worst_db, mean_db: predicted
    signal to noise of the weights, from a sample of their rows.
    """

    recipe: str
    size_bytes: int
    bits_per_weight: float
    peak_ram_bytes: int
    frame_bytes: int
    frame_ms: float | None
    why: str
    mean_db: float
    worst_db: float
    worst: str
    n_fell_back: int

    @property
    def fits(self) -> bool:
        """Whether it meets all that was asked for."""
        return not self.why


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for; None where it is not."""

    size_bytes: int | None = None
    bits_per_weight: float | None = None
    device: str | None = None


def forecasts(
    subject: Subject,
    target: Target,
    recipes: Sequence[Recipe] = (),
    *,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Forecast]:
    """One for each recipe, by default every built-in one. Raises UsageError."""
    if target.device is not None and target.device not in DEVICES:
        raise UsageError(f"unknown device {target.device!r}; known are {', '.join(DEVICES)}")
    wanted = list(recipes) or [load_recipe(name) for name in BUILT_IN]
    values = Values(subject)
    made = []
    for done, recipe in enumerate(wanted):
        on_progress("working out recipes", done, len(wanted))
        made.append(_forecast(subject, resolve(recipe, subject), values, target))
    on_progress("working out recipes", len(wanted), len(wanted))
    return made


def assumed(device: str) -> str:
    """What a forecast for a machine stands on, for people."""
    bandwidth_gb_s, memory_gb = DEVICES[device]
    return (
        f"{device}: {memory_gb:g} GB of memory, weights read at {DEFAULT_SHARE:.0%} of "
        f"{bandwidth_gb_s:g} GB/s within {FRAME_MS * HEADROOM:g} ms; its arithmetic and the "
        "other parts of a model are not in it: `edge plan` there measures all"
    )


def best(found: Sequence[Forecast]) -> Forecast | None:
    """The most precise that fits what was asked for."""
    fitting = [one for one in found if one.fits]
    return max(fitting, key=lambda one: (one.mean_db, -one.size_bytes), default=None)


def _forecast(subject: Subject, resolved: Resolved, values: Values, target: Target) -> Forecast:
    weights_now = sum(_stored_bytes(choice) for choice in resolved.choices.values())
    size = subject.size_bytes - weights_now + resolved.weight_bytes
    errors = {label: _expected_db(c, values) for label, c in resolved.choices.items()}
    worst = min(errors, key=lambda label: errors[label])
    read = sum(c.size_bytes for c in resolved.choices.values() if _read_each_frame(c))
    ram = resolved.weight_bytes + _COMPUTE_BYTES
    bits = resolved.bits_per_weight
    frame_ms, why = None, ""
    if target.size_bytes is not None and size > target.size_bytes:
        why = "too large"
    elif target.bits_per_weight is not None and bits > target.bits_per_weight:
        why = "too many bits"
    if target.device is not None:
        bandwidth_gb_s, memory_gb = DEVICES[target.device]
        frame_ms = read / 1e6 / (bandwidth_gb_s * DEFAULT_SHARE)
        if ram > memory_gb * 1e9:
            why = why or "too large"
        elif frame_ms > FRAME_MS * HEADROOM:
            why = why or "too slow"
    return Forecast(
        recipe=resolved.recipe.name,
        size_bytes=size,
        bits_per_weight=round(bits, 3),
        peak_ram_bytes=ram,
        frame_bytes=read,
        frame_ms=frame_ms,
        why=why,
        mean_db=_mean_db(errors, resolved),
        worst_db=errors[worst],
        worst=worst,
        n_fell_back=sum(choice.fell_back for choice in resolved.choices.values()),
    )


def _stored_bytes(choice: Choice) -> int:
    width = {"float": 4, "f32": 4, "f16": 2, "bf16": 2}.get(choice.item.stored, 4)
    return choice.item.n_values * width


def _read_each_frame(choice: Choice) -> bool:
    return not (choice.item.weight and choice.item.weight.kind == "table")


def expected(choice: Choice, values: Values) -> tuple[float, float]:
    """(signal, noise) energy of a weight under a choice, scaled from a sample of its rows."""
    item = choice.item
    array = values.read(item, n_rows=_SAMPLE_ROWS)
    if item.weight is not None:
        precision = choice.precision
        if precision.startswith(PRESET):
            same = choice.size_bytes >= 4 * item.n_values
            precision = "float" if same else "w4" if precision.endswith("tiny") else "int8"
        if precision in STAGED or precision not in PRECISIONS:
            precision = "float"
        columns = array[..., :: max(1, array.shape[-1] // _SAMPLE_ROWS)]
        if item.weight.kind != "matmul":
            columns = array
        after = rounded(item.weight, np.ascontiguousarray(columns), precision)
        array = columns
    else:
        ggml, kind = Ggml(), choice.precision
        after = ggml.dequantize(kind, ggml.quantize(kind, array), array.shape[1]) if (
            kind != "f32"
        ) else array  # fmt: skip
    scale = item.n_values / array.size
    signal = float(np.square(array, dtype=np.float64).sum()) * scale
    noise = float(np.square(np.asarray(after, np.float64) - array).sum()) * scale
    return signal, noise


def _expected_db(choice: Choice, values: Values) -> float:
    signal, noise = expected(choice, values)
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("inf")


def _mean_db(errors: Mapping[str, float], resolved: Resolved) -> float:
    """Over all weights, each by how many there are."""
    total = resolved.n_values
    noise = sum(
        resolved.choices[label].item.n_values * (0.0 if db == float("inf") else 10 ** (-db / 10))
        for label, db in errors.items()
    )
    return float("inf") if noise == 0 else -10 * float(np.log10(noise / total))


__all__ = ["DEVICES", "Forecast", "Target", "assumed", "best", "expected", "forecasts", "sqnr_db"]
