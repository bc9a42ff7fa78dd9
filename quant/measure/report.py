"""A result as files: report.json, report.md and report.html, all from the same figures."""

from __future__ import annotations

import base64
import io
import json
import math
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.atomic import write_text
from edge.frame import SAMPLE_RATE_HZ
from edge.store import size_text
from quant.measure.result import to_json
from quant.measure.rows import Row
from quant.quality.waves import loudness_db

Float32 = NDArray[np.float32]

_N_PLAYERS = 8
_MOST_S = 10.0
_TARGET_DB = -26.0
NAMES: Mapping[str, str] = {
    "pesq": "PESQ-WB against the float model",
    "estoi": "ESTOI against the float model",
    "visqol": "ViSQOL against the float model",
    "si_sdr_db": "SI-SDR, same tokens (dB)",
    "mel_db": "log-mel distance (dB)",
    "pause_rise_db": "rise of the noise in pauses (dB)",
    "pesq_change": "change of PESQ against the recording",
    "estoi_change": "change of ESTOI against the recording",
    "visqol_change": "change of ViSQOL against the recording",
    "tokens_mean": "equal tokens, all levels",
    "tokens_level_1": "equal tokens, level 1",
    "dnsmos_change": "change of DNSMOS",
    "dnsmos_p808_change": "change of DNSMOS P.808",
    "plcmos_change": "change of PLCMOS",
    "speaker": "speaker likeness to the float model",
    "wer_change": "change of the word error rate",
    "reference_wer": "word error rate, float",
    "candidate_wer": "word error rate, candidate",
    "text_kl": "text stream, mean KL",
    "text_same_top": "text stream, same likeliest token",
    "audio_1_kl": "audio level 1, mean KL",
    "audio_kl": "audio levels, mean KL",
    "artefact_change": "change of artefact windows",
    "duration_change": "change of duration",
    "pitch_change": "change of pitch",
    "quiet_change": "change of the share without a sound",
    "words_per_s_change": "change of the speaking rate",
}

FREE: Mapping[str, str] = {
    "stuck": "share of seconds in which it is stuck",
    "gibberish": "share of seconds of gibberish",
    "quiet": "share of frames without a sound",
    "words_per_s": "words of its text for each second that sounds",
    "dnsmos": "DNSMOS",
    "dnsmos_p808": "DNSMOS P.808",
    "plcmos": "PLCMOS",
    "silence": "share 40 dB below its loudest",
}


def write_report(
    folder: Path, result: Mapping[str, Any], rows: Sequence[Row],
    others: Sequence[Mapping[str, Any]] = (),
) -> None:  # fmt: skip
    """Write the three files. others: earlier results, for the picture of size and quality."""
    write_text(folder / "report.json", to_json(result))
    write_text(folder / "report.md", markdown(result))
    write_text(folder / "report.html", page(result, rows, others))


def markdown(result: Mapping[str, Any]) -> str:
    """The summary, for people who read text."""
    ref, cand = result["reference"], result["candidate"]
    lines = [
        f"# {_title(cand)}: {result['verdict']}",
        "",
        *(f"> **{label}**\n" for label in result["labels"]),
        *(f"- {why}" for why in result["why"]),
        *_waived(result),
        f"{cand['path']} against {ref['path']}, on {_clips(result['speech'])}.",
        "",
    ]
    if cand["size_bytes"]:
        lines += [f"Files: {size_text(ref['size_bytes'])} -> {size_text(cand['size_bytes'])}.", ""]
    if "took" in result:
        took = result["took"]
        by = "one process" if took["processes"] == 1 else f"{took['processes']} processes"
        lines += [f"Measured in {took['wall_s']:g} s by {by}.", ""]
    for arm, cost in (result.get("cost") or {}).items():
        lines.append(f"- {arm}: " + ", ".join(f"{k} {v:.4g}" for k, v in cost.items()))
    lines += ["", "| gate | found | 90 % interval | margin | verdict |", "|---|---|---|---|---|"]
    for gate in result["gates"]:
        one = result["metrics"].get(gate["metric"])
        sign = ">=" if gate["at_least"] else "<="
        found = "" if one is None else _figure(one["mean"])
        span = "" if one is None else f"{_figure(one['low90'])} .. {_figure(one['high90'])}"
        lines.append(
            f"| {NAMES.get(gate['metric'], gate['metric'])} | {found} | {span} | "
            f"{sign} {gate['limit']:g} | {gate['verdict']} |"
        )
    lines += ["", *_alone(result), *_controls(result), ""]
    lines += [f"- not measured: {name}: {why}" for name, why in result["not_measured"].items()]
    lines += [f"- skipped: {name}: {why}" for name, why in result["skipped"].items()]
    if result["worst"]:
        lines += ["", "Listen first to: " + ", ".join(result["worst"]) + "."]
    return "\n".join(lines) + "\n"


def page(
    result: Mapping[str, Any], rows: Sequence[Row], others: Sequence[Mapping[str, Any]] = ()
) -> str:
    """One HTML page that needs nothing beside itself: figures, pictures and sounds are in it."""
    data = {
        "result": json.loads(to_json(result)),
        "names": {**NAMES, **FREE},
        "sounds": [_sounds(row) for row in _to_hear(result, rows)],
        "points": [_point(one) for one in (result, *others)],
        "title": _title(result["candidate"]),
    }
    # "</" would end the script that the data stand in.
    text = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    template = Path(__file__).with_name("page.html").read_text("utf-8")
    return template.replace("/*DATA*/", text)


def _to_hear(result: Mapping[str, Any], rows: Sequence[Row]) -> list[Row]:
    """The worst, then one of each speaker, as far as there is room."""
    by_name = {row.name: row for row in rows if row.sounds and not row.skipped}
    names = [name for name in result["worst"] if name in by_name]
    seen = {by_name[name].speaker for name in names}
    for row in by_name.values():
        if row.name not in names and row.speaker not in seen:
            names.append(row.name)
            seen.add(row.speaker)
    names += [name for name in by_name if name not in names]
    return [by_name[name] for name in names[:_N_PLAYERS]]


def _sounds(row: Row) -> dict[str, Any]:
    """An utterance for the players, all arms equally loud."""
    wavs = {}
    for arm, file in row.sounds.items():
        pcm = np.load(file, allow_pickle=False)[: int(_MOST_S * SAMPLE_RATE_HZ)]
        wavs[arm] = base64.b64encode(_wav(_levelled(pcm))).decode()
    return {
        "name": row.name,
        "speaker": row.speaker,
        "wavs": wavs,
        "metrics": {k: v for k, v in row.metrics.items() if math.isfinite(v)},
    }


def _levelled(pcm: Float32) -> Float32:
    """At one loudness, so that nobody prefers the louder one."""
    if not np.abs(pcm).max(initial=0.0) > 0:
        return pcm
    gain = 10 ** ((_TARGET_DB - loudness_db(pcm, SAMPLE_RATE_HZ)) / 20)
    gain = min(gain, 0.99 / float(np.abs(pcm).max()))
    levelled: Float32 = (pcm * np.float32(gain)).astype(np.float32)
    return levelled


def _wav(pcm: Float32) -> bytes:
    raw = io.BytesIO()
    with wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    return raw.getvalue()


def _point(result: Mapping[str, Any]) -> dict[str, Any]:
    """One dot of the picture: size, damage, speed."""
    metrics = result["metrics"]
    for name in ("pesq", "visqol", "si_sdr_db", "text_same_top"):
        if name in metrics and metrics[name]["mean"] is not None:
            break
    else:
        name = next(iter(metrics), "")
    cost = (result.get("cost") or {}).get("candidate", {})
    mean = metrics[name]["mean"] if name else None
    return {
        "label": _title(result["candidate"]),
        "size_bytes": result["candidate"]["size_bytes"],
        "metric": name,
        "value": mean if mean is not None and math.isfinite(mean) else None,
        "ms": cost.get("step_ms_p50"),
        "verdict": result["verdict"],
    }


def _title(model: Mapping[str, Any]) -> str:
    return model["recipe"] or Path(model["path"]).name


def _alone(result: Mapping[str, Any]) -> list[str]:
    """What each arm is by itself, where both were left to themselves."""
    arms = result["levels"].get("free")
    if not arms or not arms["reference"]:
        return []
    lines = ["| left to itself | float | candidate |", "|---|---|---|"]
    for name, value in arms["reference"].items():
        other = _figure(arms["candidate"].get(name))
        lines.append(f"| {FREE.get(name, name)} | {_figure(value)} | {other} |")
    return [*lines, ""]


def _controls(result: Mapping[str, Any]) -> list[str]:
    same, bad = (result["controls"][k] for k in ("float_against_float", "known_bad"))
    zero = "zero difference" if same["zero"] else f"NOT zero ({same['largest']:.3g})"
    said = "rejected" if bad["rejected"] else "NOT REJECTED: this gate cannot be trusted"
    return [f"Controls: float against float, {zero}; known-bad arm, {said}."]


def _waived(result: Mapping[str, Any]) -> list[str]:
    names = ", ".join(result["waived"])
    return ["", f"Waived with --without, so the verdict says nothing of it: {names}.", ""] * bool(
        names
    )


def _clips(speech: Mapping[str, Any]) -> str:
    if speech["unit"] != "speakers":
        return f"{speech['n']} {speech['unit']}"
    return f"{speech['n']} utterances of {speech['n_units']} speakers"


def _figure(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4g}"
