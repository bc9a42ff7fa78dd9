"""Which measurement belongs to which kind of model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.errors import UsageError
from quant.measure.cache import Cache
from quant.measure.rows import Row
from quant.measure.run import Plan, Progress, measure_codec, measure_folders
from quant.measure.speech import Speech, check_disjoint, read_speech
from quant.subject import Subject
from runtime.models.whisper import KIND as WHISPER


def measure_any(
    models: Sequence[Subject] | None, paths: tuple[Path, Path], plan: Plan, *,
    speech: Path | None, limit: int | None, codec: Path | None, on_progress: Progress,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    """Measure whatever it is. models: None for two folders of sounds. Raises UsageError."""
    if models is None:
        clips = read_speech(paths[0], limit=limit)
        return measure_folders(paths[1], clips, plan, on_progress=on_progress)
    reference, candidate = models
    if reference.section == "mimi":
        clips = _clips(candidate, speech, limit)
        return measure_codec(reference, candidate, clips, plan, on_progress=on_progress)
    if reference.section == "moshi":
        return measure_streams(reference, candidate, speech, limit, plan, codec, on_progress)
    if reference.section == "tts":
        return measure_voice(reference, candidate, speech, limit, plan, on_progress)
    if reference.section == "asr":
        clips = _clips(candidate, speech, limit)
        return measure_recogniser(reference, candidate, clips, plan, on_progress)
    if reference.section == "llm":
        raise UsageError(
            f"{reference.path}: a language model alone makes no sound, and its perplexity and KL "
            "need the float model it was quantized from; without that source every figure would be "
            "a guess. Measure it in a conversation: edge bench talk"
        )
    raise UsageError(f"{reference.path}: {reference.section} models cannot be measured by sound")


def measure_voice(
    reference: Subject, candidate: Subject, texts: Path | None, limit: int | None, plan: Plan,
    on_progress: Progress,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    """A voice over sentences. texts: a file with one a line, in place of our own."""
    import tempfile
    from dataclasses import replace

    from quant.measure.run import Arms, about, assemble, bad_recipe, labels, measure_arms
    from quant.measure.voice import VOICE_GATES, VOICE_NOTES, make_voice_handler, sentences
    from quant.measure.weights import weight_errors
    from quant.run import quantize
    from quant.subject import check_lineage

    check_lineage(reference, candidate)
    said = sentences(texts)
    said = replace(said, utterances=said.utterances[:limit])
    graphs = [str(model.parts[0].path) for model in (reference, candidate)]
    with tempfile.TemporaryDirectory(prefix="edge-bad-") as scratch:
        bad = quantize(reference, bad_recipe(), Path(scratch) / "bad").directory
        arms = Arms(graphs[1], graphs[0], str(bad / Path(graphs[0]).name), VOICE_GATES)
        rows, same, rejected = measure_arms(
            make_voice_handler, (graphs[0], plan.options, str(Cache(plan.cache).folder)), arms,
            said, plan, on_progress, control_key=("voice", reference.fingerprint),
        )  # fmt: skip
    levels = {"weights": {"sqnr_db": weight_errors(reference, candidate, on_progress=on_progress)}}
    found = assemble(reference, candidate, rows, plan, VOICE_GATES, same, rejected, levels)
    found["speech"] = about(said)
    found["labels"] = [*labels(rows, said, plan), *VOICE_NOTES]
    found["cost"] = {
        arm: {"cpu_s_per_s": sum(row.timing[arm] for row in rows) / len(rows)}
        for arm in ("reference", "candidate")
    }
    return found, rows


def _clips(candidate: Subject, speech: Path | None, limit: int | None) -> Speech:
    """The speech, none of which the candidate was calibrated with."""
    from quant.run import calibration_speech

    if speech is None:
        raise UsageError("this needs speech: give a folder with --speech DIR")
    found = read_speech(speech, limit=limit)
    check_disjoint(found, list(calibration_speech(candidate)))
    return found


def measure_recogniser(
    reference: Subject, candidate: Subject, speech: Speech, plan: Plan, on_progress: Progress
) -> tuple[dict[str, Any], list[Row]]:
    """A recogniser, as `edge export asr` writes it, over speech."""
    import tempfile

    from quant.measure.recogniser import ASR_GATES, make_recogniser_handler
    from quant.measure.result import table_of
    from quant.measure.run import Arms, about, assemble, bad_recipe, labels, measure_arms
    from quant.measure.stats import ratio
    from quant.measure.weights import weight_errors
    from quant.run import quantize
    from quant.subject import check_lineage

    check_lineage(reference, candidate)
    if reference.manifest is None or reference.manifest.kind != WHISPER:
        raise UsageError(f"{reference.path}: only recognisers of `edge export asr` can be measured")
    with tempfile.TemporaryDirectory(prefix="edge-bad-") as scratch:
        bad = quantize(reference, bad_recipe(), Path(scratch) / "bad").directory
        arms = Arms(str(candidate.path), str(reference.path), str(bad), ASR_GATES)
        rows, same, rejected = measure_arms(
            make_recogniser_handler,
            (str(reference.path), plan.options, str(Cache(plan.cache).folder)),
            arms, speech, plan, on_progress, control_key=("asr", reference.fingerprint),
        )  # fmt: skip
    levels = {"weights": {"sqnr_db": weight_errors(reference, candidate, on_progress=on_progress)}}
    found = assemble(reference, candidate, rows, plan, ASR_GATES, same, rejected, levels)
    counted = [row for row in rows if "ctranslate2_int8.wer" in row.counts]
    if counted:
        wrong, total = (
            {row.name: row.counts["ctranslate2_int8.wer"][i] for row in counted} for i in (0, 1)
        )
        peer = ratio(wrong, total, speech.speakers)
        found["metrics"] |= table_of({"ctranslate2_int8_wer": peer})
    found["speech"] = about(speech)
    found["labels"] = labels(rows, speech, plan)
    found["cost"] = {
        arm: {"cpu_s_per_s": sum(row.timing[arm] for row in rows) / len(rows)}
        for arm in ("reference", "candidate", "ctranslate2_int8")
        if all(arm in row.timing for row in rows)
    }
    return found, rows


def measure_streams(
    reference: Subject, candidate: Subject, speech: Path | None, limit: int | None, plan: Plan,
    codec: Path | None, on_progress: Progress,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    """A multistream model, led along the float model's own tokens, and left to itself.

    speech: what the user says, in a codec's tokens; without it his codes are random. codec: by
    default the one in the reference's folder or beside it; without one nothing is heard.
    """
    import tempfile
    from dataclasses import replace

    from quant.measure.run import Arms, about, assemble, labels, measure_arms
    from quant.measure.streams import (
        FREE_GATES,
        LED_GATES,
        SCRAMBLED,
        conversations,
        encoded,
        find_codec,
        make_stream_handler,
    )
    from quant.measure.weights import weight_errors
    from quant.subject import check_lineage
    from runtime.models.multistream.spec import MoshiSpec

    check_lineage(reference, candidate)
    assert reference.manifest is not None
    spec = MoshiSpec.from_table(reference.manifest.config)
    gates = (*LED_GATES, *FREE_GATES) if spec.depth_steps else LED_GATES[:2]
    codec = find_codec(reference.path, codec)
    with tempfile.TemporaryDirectory(prefix="edge-streams-") as scratch:
        folder = Path(scratch)
        if speech is None:
            n = limit or 24
            random = conversations(folder, spec.layout.n_user, spec.card, n=n)
            talk = Speech(folder, tuple(random), unit="conversations")
        elif codec is None:
            raise UsageError(f"{reference.path} has no codec for the speech: --codec DIR")
        else:
            clips = _clips(candidate, speech, limit)
            talk = replace(clips, utterances=encoded(clips, codec, spec.layout.n_user, folder))
        arms = Arms(str(candidate.path), str(reference.path), SCRAMBLED, gates)
        arguments = (str(reference.path), str(codec or ""), plan.options)
        rows, same, rejected = measure_arms(
            make_stream_handler, (*arguments, str(Cache(plan.cache).folder)), arms, talk, plan,
            on_progress, control_key=("streams", reference.fingerprint, str(codec)),
        )  # fmt: skip
        levels: dict[str, Any] = {
            "weights": {"sqnr_db": weight_errors(reference, candidate, on_progress=on_progress)}
        }
        found = assemble(reference, candidate, rows, plan, gates, same, rejected, levels)
        found["speech"] = about(talk)
    streams = [name for name in found["metrics"] if name.endswith("_kl") and name != "audio_kl"]
    levels["free"] = {arm: _mean_facts(rows, arm) for arm in ("reference", "candidate")}
    levels["streams"] = {"kl": {name: found["metrics"][name]["mean"] for name in streams}}
    found["labels"] = labels([], talk if speech else replace(talk, utterances=()), plan)
    if speech is None:
        found["labels"].append("the user's codes are random: they are no speech")
    return found, rows


def _mean_facts(rows: Sequence[Row], arm: str) -> dict[str, float]:
    """The mean of each fact of an arm over the conversations that have it."""
    begin = f"{arm}."
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.facts.items():
            if name.startswith(begin) and not math.isnan(value):
                found.setdefault(name.removeprefix(begin), []).append(value)
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}
