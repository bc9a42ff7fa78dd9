"""Which measurement belongs to which kind of model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.errors import UsageError
from quant.measure.cache import Cache
from quant.measure.rows import Row
from quant.measure.run import Plan, Progress, measure_codec, measure_folders
from quant.measure.speech import Speech, read_speech
from quant.subject import Subject


def measure_any(
    models: Sequence[Subject] | None, paths: tuple[Path, Path], plan: Plan, *,
    speech: Path | None, limit: int | None, on_progress: Progress,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    """Measure whatever it is. models: None for two folders of sounds. Raises UsageError."""
    if models is None:
        clips = read_speech(paths[0], limit=limit)
        return measure_folders(paths[1], clips, plan, on_progress=on_progress)
    reference, candidate = models
    if reference.section == "mimi":
        clips = _clips(speech, limit)
        return measure_codec(reference, candidate, clips, plan, on_progress=on_progress)
    if reference.section == "tts":
        return measure_voice(reference, candidate, speech, limit, plan, on_progress)
    if reference.section == "asr":
        clips = _clips(speech, limit)
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


def _clips(speech: Path | None, limit: int | None) -> Speech:
    if speech is None:
        raise UsageError("this needs speech: give a folder with --speech DIR")
    return read_speech(speech, limit=limit)


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
    if reference.manifest is None or reference.manifest.config.get("family") != "whisper":
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
