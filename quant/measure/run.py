"""`edge measure run`: both arms over all utterances, the controls, the gates, one result."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import EdgeError, UsageError
from edge.frame import SAMPLE_RATE_HZ
from edge.wav import WavWriter, read_mono
from quant.measure import result as results
from quant.measure.cache import Cache
from quant.measure.codec import make_codec_handler
from quant.measure.cost import cost_of
from quant.measure.ears import Options
from quant.measure.folders import make_folder_handler
from quant.measure.gates import Table, overall, reasons
from quant.measure.rows import Row
from quant.measure.speech import SYNTHETIC, UNTRAINED, Speech, Utterance
from quant.measure.weights import weight_errors
from quant.measure.workers import Handler, Work, work
from quant.recipe import Recipe, Rule
from quant.subject import Subject, check_lineage

Progress = Callable[[str, int, int], None]

CODEC_GATES = (
    "pesq", "si_sdr_db", "mel_db", "pause_rise_db", "pesq_change", "estoi_change", "visqol_change",
    "tokens_level_1", "tokens_mean", "dnsmos_change", "plcmos_change", "speaker", "wer_change",
)  # fmt: skip
FOLDER_GATES = (
    "pesq", "si_sdr_db", "mel_db", "pause_rise_db", "dnsmos_change", "plcmos_change", "speaker",
    "wer_change",
)  # fmt: skip
WORST_BY = ("pesq", "si_sdr_db", "visqol", "mel_db", "tokens_mean", "text_kl")
N_CONTROL = 5
_SPEECH_LIKE = 0.3  # ESTOI of the float codec against the recording
_HISS_DB = -50.0
# What must be exactly so where a model is compared with itself.
_ZERO = ("mel_db", "pause_rise_db", "pesq_change", "estoi_change", "visqol_change",
         "dnsmos_change", "plcmos_change", "text_kl", "audio_kl", "artefact_change")  # fmt: skip
_ONE = ("tokens_mean", "same_words", "text_same_top")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a measurement is made. untrained: the weights are no model of speech; said, not found.

    work: who does the jobs, this machine's processes or a cluster."""

    margins: Table
    options: Options = field(default_factory=Options)
    n_workers: int = 1
    cache: Path | None = None
    untrained: bool = False
    timed: bool = True
    work: Work = work


def bad_recipe() -> Recipe:
    """The known-bad arm: every weight in two bits, simulated."""
    rules = (Rule(".*:search:.*", "float", optional=True), Rule(".*", "sim2"))
    return Recipe(
        "two bits", "", 0, "compact", {"mimi": rules, "tts": rules, "asr": rules}, "0" * 64
    )


def measure_codec(
    reference: Subject, candidate: Subject, speech: Speech, plan: Plan,
    *, on_progress: Progress = lambda *_: None,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    """A codec against its float model: all that is found, and the utterances with their sounds.

    Raises UsageError where they do not belong together.
    """
    from quant.run import quantize

    check_lineage(reference, candidate)
    cache = Cache(plan.cache)
    errors = weight_errors(reference, candidate, on_progress=on_progress)
    with tempfile.TemporaryDirectory(prefix="edge-bad-") as scratch:
        bad = quantize(reference, bad_recipe(), Path(scratch) / "bad").directory
        arms = Arms(str(candidate.path), str(reference.path), str(bad), CODEC_GATES)
        arguments = (str(reference.path), plan.options, str(cache.folder))
        rows, same, rejected = measure_arms(
            make_codec_handler, arguments, arms, speech, plan, on_progress,
            control_key=(reference.fingerprint,),
        )  # fmt: skip
    levels = {
        "weights": {"sqnr_db": errors},
        "codec": {"levels": _levels(rows)},
    }
    found = assemble(reference, candidate, rows, plan, CODEC_GATES, same, rejected, levels)
    found["speech"] = about(speech)
    found["labels"] = [*labels(rows, speech, plan), *_unwritten(rows, speech)]
    if plan.timed:
        on_progress("timing both", 0, 1)
        cost = cost_of([reference.path, candidate.path])
        found["cost"] = {"reference": cost[str(reference.path)],
                         "candidate": cost[str(candidate.path)]}  # fmt: skip
        on_progress("timing both", 1, 1)
    return found, rows


def measure_folders(
    candidate: Path, speech: Speech, plan: Plan, *, on_progress: Progress = lambda *_: None
) -> tuple[dict[str, Any], list[Row]]:
    """A folder of sounds against the speech they came from, clip by clip of equal name."""
    cache = Cache(plan.cache)
    with tempfile.TemporaryDirectory(prefix="edge-bad-") as scratch:
        for one in control_clips(speech):
            _write_hissing(one, Path(scratch) / f"{one.name}.wav")
        arms = Arms(str(candidate), str(speech.folder), scratch, FOLDER_GATES)
        rows, same, bad = measure_arms(
            make_folder_handler, (plan.options, str(cache.folder)), arms, speech, plan, on_progress,
            control_key=("folders",),
        )  # fmt: skip
    found = assemble(None, None, rows, plan, FOLDER_GATES, same, bad, {})
    for arm, folder in (("reference", speech.folder), ("candidate", candidate)):
        found[arm] = {"path": str(folder), "kind": "sounds", "recipe": "", "size_bytes": 0}
    found["reference"]["fingerprint"] = found["candidate"]["fingerprint"] = speech.sha256
    found["speech"] = about(speech)
    found["labels"] = [*labels(rows, speech, plan), *_unwritten(rows, speech)]
    return found, rows


@dataclass(frozen=True, slots=True)
class Arms:
    """What a job's first half may be: the candidate, the reference itself, the known-bad arm."""

    candidate: str
    reference: str
    bad: str
    gates: tuple[str, ...]


def measure_arms(
    make: Callable[..., Handler], arguments: tuple[Any, ...], arms: Arms, speech: Speech,
    plan: Plan, on_progress: Progress, *, control_key: tuple[str, ...],
) -> tuple[list[Row], dict[str, float], dict[str, float]]:  # fmt: skip
    """The candidate over all clips and both controls over a few, by one set of workers.

    Controls whose outcome is known by hash are not run again. Returns the candidate's rows in the
    clips' order, and what became of the two controls. Raises EdgeError where no clip can be used.
    """
    cache, clips, few = Cache(plan.cache), list(speech.utterances), control_clips(speech)
    key = (*control_key, *(one.sha256 for one in few), repr(plan.options))
    keys = {
        arms.reference: ("control", *key),
        arms.bad: ("known bad", *key, repr(sorted(plan.margins.items()))),
    }
    jobs = [(arms.candidate, one) for one in clips]
    for arm, parts in keys.items():
        if not cache.path(*parts, ending=".json").is_file():
            jobs += [(arm, one) for one in few]
    found: dict[int, Row] = {}
    on_progress("measuring utterances", 0, len(jobs))
    for index, row in plan.work(make, arguments, jobs, n_workers=plan.n_workers):
        found[index] = row
        on_progress("measuring utterances", len(found), len(jobs))
    rows = [found[i] for i in range(len(clips))]
    if all(row.skipped for row in rows):
        raise UsageError(f"none of the clips can be measured: {rows[0].name} is {rows[0].skipped}")
    by_arm = {
        arm: [found[i] for i in range(len(clips), len(jobs)) if jobs[i][0] == arm] for arm in keys
    }
    same = cache.figures(keys[arms.reference], lambda: _same(by_arm[arms.reference]))
    bad = cache.figures(
        keys[arms.bad], lambda: _rejection(by_arm[arms.bad], plan.margins, arms.gates)
    )
    return rows, same, bad


def assemble(
    reference: Subject | None, candidate: Subject | None, rows: Sequence[Row], plan: Plan,
    wanted: Sequence[str], same: dict[str, float], bad: dict[str, float], levels: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The result of any kind of measurement. A control that fails makes the verdict worthless."""
    used = [row for row in rows if not row.skipped]
    found = results.summaries(used)
    missing = {name: why for row in used for name, why in row.missing.items()}
    gates = results.judged(found, plan.margins, wanted, plan.options.without, missing)
    verdict = overall(gates)
    why = reasons(gates, verdict)
    controls_fine = same["zero"] == 1.0 and bad["rejected"] == 1.0
    if not controls_fine:
        verdict, why = "inconclusive", ["a control failed: no figure here can be trusted"]
    return {
        "schema": results.SCHEMA,
        "verdict": verdict,
        "why": why,
        "waived": sorted(plan.options.without),
        "reference": results.describe(reference) if reference else None,
        "candidate": results.describe(candidate) if candidate else None,
        "controls": {"float_against_float": same, "known_bad": bad, "fine": controls_fine},
        "gates": results.gate_table(gates),
        "metrics": results.table_of(found),
        "not_measured": {k: v for k, v in missing.items() if k not in plan.options.without},
        "skipped": {row.name: row.skipped for row in rows if row.skipped},
        "levels": levels,
        "worst": results.worst(used, WORST_BY),
        "utterances": results.row_table(rows),
        "surroundings": results.surroundings(),
    }


def control_clips(speech: Speech) -> list[Utterance]:
    """One clip of each of the first few speakers."""
    seen: dict[str, Utterance] = {}
    for one in speech.utterances:
        seen.setdefault(one.speaker, one)
    return list(seen.values())[:N_CONTROL]


def about(speech: Speech) -> dict[str, Any]:
    """The speech, for the report."""
    return {
        "folder": str(speech.folder),
        "sha256": speech.sha256,
        "n": len(speech.utterances),
        "unit": speech.unit,
        "n_units": len(set(speech.speakers.values())),
        "synthetic": speech.synthetic,
        "files": {one.name: one.sha256 for one in speech.utterances},
    }


def labels(rows: Sequence[Row], speech: Speech, plan: Plan) -> list[str]:
    """What must stand above every figure: what these sounds cannot show."""
    said = []
    found = [row.facts["reference.estoi_original"] for row in rows
             if "reference.estoi_original" in row.facts]  # fmt: skip
    if plan.untrained or (found and float(np.nanmean(found)) < _SPEECH_LIKE):
        said.append(UNTRAINED)
    if speech.synthetic:
        said.append(SYNTHETIC)
    return said


def _unwritten(rows: Sequence[Row], speech: Speech) -> list[str]:
    """Whether words were held against what is heard, for want of a transcript."""
    texts = {one.name: one.text for one in speech.utterances}
    n = sum(bool(row.counts) and not texts[row.name] for row in rows)
    if not n:
        return []
    said = "their words are held against what the recogniser hears in the recording"
    return [f"{n} of {len(rows)} clips have no transcript: {said}"]


def _levels(rows: Sequence[Row]) -> list[float]:
    """Mean agreement of each codebook, coarsest first."""
    found: list[float] = []
    for level in range(1, 65):
        name = f"tokens_level_{level}"
        values = [row.metrics[name] for row in rows if name in row.metrics]
        if not values:
            return found
        found.append(float(np.mean(values)))
    return found


def _same(rows: Sequence[Row]) -> dict[str, float]:
    """Whether a model compared with itself shows no difference at all."""
    used = [row for row in rows if not row.skipped]
    off = 0.0
    for row in used:
        off = max([off, *(abs(row.metrics[name]) for name in _ZERO if name in row.metrics)])
        off = max([off, *(1 - row.metrics[name] for name in _ONE if name in row.metrics)])
    return {"zero": float(bool(used) and off == 0.0), "largest": off, "n": float(len(used))}


def _rejection(rows: Sequence[Row], margins: Table, wanted: Sequence[str]) -> dict[str, float]:
    """Whether the gate rejects the known-bad arm, and by how many margins."""
    used = [row for row in rows if not row.skipped]
    gates = results.judged(results.summaries(used), margins, wanted)
    failed = sum(gate.verdict == "fail" for gate in gates)
    return {"rejected": float(failed > 0), "n_failed": float(failed), "n": float(len(used))}


def _write_hissing(one: Utterance, path: Path) -> None:
    pcm = read_mono(one.path, SAMPLE_RATE_HZ)
    rng = np.random.default_rng(0)
    level = float(np.abs(pcm).max()) * 10 ** (_HISS_DB / 20)
    noisy = np.clip(pcm + rng.normal(0, level, len(pcm)).astype(np.float32), -1, 1)
    with WavWriter(path) as writer:
        writer.write(noisy.astype(np.float32))


def check_finite(result: dict[str, Any]) -> None:
    """Refuse a result without a single figure. Raises EdgeError."""
    if not any(math.isfinite(one["mean"]) for one in result["metrics"].values()):
        raise EdgeError("nothing could be measured; see not_measured in the report")
