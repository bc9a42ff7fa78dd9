"""Put a packed and examined miniature into the repository: files, figures, card and lock entry.

    python scripts/ship_miniature.py ARTIFACT REPORT [--folder WORKSHOP]

ARTIFACT is what `edge mini package --out` wrote, REPORT what `edge mini eval --out` wrote of it.
Figures of earlier proofs are kept. How long each part was trained comes from the checkpoints.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from edge.hashing import sha256_of
from export.mini import intents
from export.mini.checkpoints import RunState, run_state
from export.mini.workshop import Workshop, open_workshop

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "apps" / "assets" / "miniature"
_KEPT = ("home_stage_after_3500_steps", "proofs")
_WANTED = {"new phrasing": "90 %", "new phrasing and voice": "70 %"}

_TOP = """# The miniature

A very small full-duplex speech model, trained from nothing on synthetic voices, so that
`edge talk --engine duplex` runs on any laptop without a download and so that the tools here have
trained weights to measure. It has the architecture, key layout, export path and runtime of the big
models (Mimi and Moshi) and almost none of their abilities.

**It is no assistant.** It knows 20 questions, answers each with one fixed sentence, and is
often wrong. It has no clock and no knowledge, and understands nothing that it was not trained on:
to anything else it says one of its sentences or nothing. The recogniser makes out {heard} of its
words; `edge talk` shows its inner text as well.

## What it can be asked

Greetings and thanks, how it is, its name, a joke, volume up and down, music, lights on and off, the
capitals of France, Japan and Italy, two plus two, three times three, minutes in an hour, days in a
week, a timer of five or ten minutes - in clear English, one question at a time. "Say that again"
and "what did I just say" may follow (see below how often they work). It plays no music and sets no
timer; it only says so. "Stop" over a long reply is meant to silence it.

## How good it is

Printed by `edge mini eval`; phrasings, voices and noises were held out of training. Every question
was written in a first list and a longer, later one; of each a fifth is held out. Further phrasings
are only trained on, {practised} of every question; none says a held-out one, or holds one unless
most of the trained ones did already (as they hold "two plus two").

| figure | measured | wanted |
|---|---|---|
"""

_MADE = """## How it was made

- Codec: 2.6 M parameters, 24 kHz, 12.5 frames a second, 8 codebooks of 512 codes (0.9 kbit/s);
  {codec_steps} steps of 3 crops of 0.96 s without codebooks, which are then fitted by residual
  k-means; then {decoder_steps} steps of the decoder alone on the assistant's voice, the later ones
  with the envelopes of bands compared as well.
- Multistream model: 11.3 M parameters, 3 temporal layers of width 256 and one depth layer of width
  256; {before} steps on the first list of phrasings, then {model_steps} on both, the later ones on
  those for training only as well, of 4 conversations of 12.8 s.
- Hardware: {hardware}.
- `edge mini data`, `edge mini codec`, `edge mini codec --finish 600`, `edge mini codec --decoder`,
  `edge mini codec --decoder --finish 300`, `edge mini lm`, `edge mini lm --finish 1500`,
  `edge mini package` with the configs in `export/mini/configs` (the model's stages with
  `--stage core`), then `scripts/ship_miniature.py`; the same commands go on from the checkpoints in
  the cache folder. `edge mini lm --from RUN TOKENIZER` starts from an earlier run, as this one did;
  `edge mini package --float` gives the float model.
"""

_TRIED = """- Tried and not used: codebooks that follow the encoder while it learns (collapsed),
  noise in their place (diverged), a judge of spectra for the decoder (a thousand steps: a third
  dearer, and ESTOI on sentences beside the held-out ones fell from 0.671 to 0.667), 3200 more
  steps of the decoder (ESTOI of unseen sentences 0.73 and of other voices 0.67, but the recogniser
  missed 20 % of the words of replies to the questions kept for validation, against 16 %).

## Data and licence

All sound is synthetic and was made on the spot from texts written for this project. The assistant
is hibari-tts's voice `heart` (Apache-2.0, itself distilled from Kokoro-82M, Apache-2.0). Users are
that voice bent in pitch and speed, and what espeak-ng (GPL-3.0-or-later), flite (BSD-like, CMU) and
festival with the voices slt, ked and kal (BSD-like and X11-like) said; programs' licences do not
extend to what they say, and none of these programs or voices is part of edgevoice. Codebook 1 was
taught by the encoder of Whisper tiny.en (MIT). No recording of a person is in the training data.

The weights are ours: Apache-2.0, like the rest of edgevoice.
"""


def percent(share: float) -> str:
    """A share as the card writes it."""
    return f"{100 * share:.0f} %"


def codec_rows(codec: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The card's rows on the codec."""
    own = codec["own"]
    pair = f"{codec['seen']['estoi']:.2f} / {codec['unseen']['estoi']:.2f}"
    entropy = " ".join(f"{100 * share:.0f}" for share in codec["code_entropy_share"])
    rows = [
        (f"codec, its own voice, {own['n']} unseen sentences: ESTOI", f"{own['estoi']:.2f}",
         "0.75"),
        ("the same, recogniser's word errors (original)", _beside(own), "15 points more"),
        ("codec, other voices seen / unseen: ESTOI", pair, "0.65 / 0.50"),
    ]  # fmt: skip
    if "real" in codec:
        real = codec["real"]
        name = f"codec, {real['n']} recordings of real speech: ESTOI"
        rows += [(name, f"{real['estoi']:.2f}", "-"),
                 ("the same, recogniser's word errors (original)", _beside(real), "-")]  # fmt: skip
    return [*rows, ("code entropy, codebooks 1 to 8, % of 9 bits", entropy, "> 75")]


def _beside(group: dict[str, float]) -> str:
    return f"{percent(group['wer'])} ({percent(group['wer_of_original'])})"


def answer_rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The card's rows on the model."""
    answers, rows = report["answers"], []
    for split, row in answers.items():
        if not isinstance(row, dict):
            continue
        name = f"right answers, {split}: by inner text / by recognised speech (n = {row['n']})"
        right = f"{percent(row['right_by_text'])} / {percent(row['right_by_sound'])}"
        rows.append((name, right, _WANTED.get(split, "-")))
        first = row.get("of_first_list", {"n": 0})
        if split in _WANTED and first["n"]:
            name = f"of these, the first list's: by inner text (n = {first['n']})"
            rows.append((name, percent(first["right_by_text"]), "-"))
    stops, silence = report["interruptions"], report["silence"]
    after = stops["stops_after_ms_p50"]
    return [
        *rows,
        ("reply's sound against its inner text: word errors",
         percent(answers["reply_wer_to_inner_text"]), "20 %"),
        ("reply starts after the user's last word, median",
         f"{answers['starts_after_ms_p50']:.0f} ms", "400 ms"),
        (f"stops after an interruption, median (n = {stops['n']})",
         "never" if after is None else f"{after:.0f} ms", "400 ms"),
        (f"false starts in {silence['minutes']:.1f} silent or noisy minutes",
         str(silence["false_starts"]), "< 1"),
    ]  # fmt: skip


def after_table(report: dict[str, Any]) -> str:
    """Follow-ups and damage, where they were measured."""
    text, found = "", report.get("follow_ups", {})
    names = {"again": '"Say that again"', "recall": '"What did I just say"'}
    lines = [
        f"- {name}: {percent(found[key]['right_by_text'])} right in held-out words "
        f"(n = {found[key]['n']}).\n"
        for key, name in names.items()
        if found.get(key, {}).get("n")
    ]
    if lines:
        text += "Follow-ups, where the first reply was right:\n\n" + "".join(lines) + "\n"
    rungs = report.get("damage", {}).get("rungs", {})
    if rungs:
        text += "Rounded to fewer bits, against its own float output (codec and model):\n\n"
        text += "| weights | wave SNR | log-mel | codes equal | text KL |\n|---|---|---|---|---|\n"
    for name, row in rungs.items():
        text += f"| {name} | {row['wave_snr_db']:.1f} dB | {row['log_mel']:.3f} "
        text += f"| {percent(row['codes_equal'])} | {row['text_kl']:.5f} |\n"
    return text + "\n" if rungs else text


def proofs_text(report: dict[str, Any]) -> str:
    """What was overfitted or compared on the way."""
    text = "- Proofs on the way:\n"
    for proof in report["proofs"]:
        text += f"  - {proof['what']}: after {proof['steps']} steps "
        text += (
            f"text loss {proof['text']}, {percent(proof['words'])} of the reply's pieces right;\n"
            if "words" in proof
            else f"log-mel {proof['mel']}, content {proof['content']} (the shipped seed at that "
            "step: 0.819, 0.803).\n"
        )
    home = {name: percent(row["right_by_text"]) for name, row in report[_KEPT[0]].items()}
    return text + (
        "- A hundred and one intents (`--stage home`) were tried first: after 3500 steps "
        f"{home['train']} right in trained\n  words, {home['new phrasing']} in new words, "
        f"{home['new phrasing and voice']} with new words and voice. The twenty went on from "
        "there.\n"
    )


def card_of(report: dict[str, Any]) -> str:
    """The model card."""
    runs, heard = report["runs"], percent(1 - report["answers"]["reply_wer_to_inner_text"])
    rows = [*codec_rows(report["codec"]), *answer_rows(report)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    limits = (
        f"What limits it is training time: {runs['codec']['minutes']:.0f} minutes for the codec's "
        f"encoder, {runs['decoder']['minutes'] - runs['codec']['minutes']:.0f} more\nfor its "
        f"decoder and {runs['model']['minutes']:.0f} for the model, on one core of a CPU without a "
        "GPU, by the clock: for\npart of that time other work had the core.\n\n"
    )
    made = _MADE.format(
        codec_steps=runs["codec"]["steps"], decoder_steps=runs["decoder"]["steps"],
        before=runs["model"]["before"], model_steps=runs["model"]["steps"],
        hardware=runs["model"]["hardware"],
    )  # fmt: skip
    top = _TOP.format(heard=heard, practised=intents.PRACTISED)
    return top + table + "\n" + after_table(report) + limits + made + proofs_text(report) + _TRIED


def runs_of(shop: Workshop) -> dict[str, dict[str, Any]]:
    """Steps, minutes and hardware of what is packed."""

    def told(state: RunState) -> dict[str, Any]:
        minutes = round(state.wall_s / 60, 1)
        return {"steps": state.step, "before": state.before, "minutes": minutes,
                "hardware": state.hardware}  # fmt: skip

    paths = {"codec": shop.codec_frozen, "decoder": shop.codec_best,
             "model": shop.lm_finished("core")}  # fmt: skip
    return {name: told(run_state(path)) for name, path in paths.items()}


def write_lock() -> int:
    """Put the files' sizes and hashes into models.lock; returns their bytes together."""
    files = sorted(path for path in HOME.rglob("*") if path.is_file())
    rows = "".join(
        f'  {{ path = "{path.relative_to(HOME).as_posix()}", size_bytes = '
        f'{path.stat().st_size:_}, sha256 = "{sha256_of(path)}" }},\n'
        for path in files
    )
    lock = ROOT / "models.lock"
    pattern = re.compile(r'(\nname = "miniature"\n.*?\nfile = \[\n).*?(\]\n)', re.DOTALL)
    text, n_found = pattern.subn(lambda m: m[1] + rows + m[2], lock.read_text("utf-8"), count=1)
    if n_found != 1:
        raise click.ClickException("models.lock has no entry named miniature")
    lock.write_text(text, encoding="utf-8")
    return sum(path.stat().st_size for path in files)


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("report", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="The workshop.")
def main(artifact: Path, report: Path, folder: Path | None) -> None:
    """Ship it."""
    found = json.loads(report.read_text("utf-8"))
    before = json.loads((HOME / "evaluation.json").read_text("utf-8"))
    found["model"] = HOME.relative_to(ROOT).as_posix()
    found |= {name: before[name] for name in _KEPT}
    found["runs"] = runs_of(open_workshop(folder))
    card = card_of(found)
    shutil.rmtree(HOME)
    shutil.copytree(artifact, HOME)
    (HOME / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (HOME / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    sys.stdout.write(f"{write_lock() / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
