"""What quantization does to the trained miniature: `python scripts/measure_miniature.py OUT`.

Packages the checkpoints of the user's cache folder in float, asks the model questions of the bank
that it did not hear in training, and measures smaller forms of it, codec and model, as `edge
measure` does. Writes figures/measure-miniature-*.json and prints the table; ends with 1 where fewer
bits did less damage. What is in OUT already is not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from edge.paths import cache_dir
from edge.wav import WavWriter
from export.mini.bank import Utterance, open_sound

FORMS = {
    "codec": ("transparent", "int8", "compact", "int4", "tiny", "3bit"),
    "model": ("transparent", "int8", "compact", "int4", "tiny"),
}
# What must grow as bits are taken away. The model's "tiny" has three bits where a kernel has them.
ORDER = {"codec": ("transparent", "int4", "3bit"), "model": ("transparent", "int4", "tiny")}
DAMAGE = {"codec": ("si_sdr_db", -1), "model": ("audio_kl", 1)}
_THREE = """name = "3bit"
about = "Three bits a weight, simulated."
gates = "compact"
[[mimi]]
match = '.*:search:.*'
to = "float"
[[mimi]]
match = ".*"
to = "sim3"
"""


def main() -> None:
    """Make what is missing, measure, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--float", type=Path, help="a float miniature; default: packaged now")
    parser.add_argument("--bank", type=Path, default=cache_dir() / "mini" / "bank-core")
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    parser.add_argument("--parts", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--workers", default="2")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    model = given.float or out / "float"
    if not model.is_dir():
        edge("mini", "package", "--float", "--out", model)
    speech = out / "questions"
    if not speech.is_dir():
        write_questions(given.bank, speech, given.questions)
    recipe = out / "3bit.toml"
    recipe.write_text(_THREE, "utf-8")
    fine = True
    for part in given.parts:
        whole = model / "mimi" if part == "codec" else model
        found = {}
        for name in FORMS[part]:
            small, report = out / f"{part}-{name}", out / f"report-{part}-{name}"
            if not small.is_dir():
                what = str(recipe) if name == "3bit" else name
                edge("quantize", whole, "--recipe", what, "--out", small, "--no-compare")
            if not report.is_dir():
                with_codec = [] if part == "codec" else ["--codec", model / "mimi"]
                edge("measure", whole, small, "--speech", speech, "--out", report,
                     "--workers", given.workers, *with_codec, fine=(0, 1, 3))  # fmt: skip
            found[name] = json.loads((report / "report.json").read_text("utf-8"))
            for arm in ("reference", "candidate"):
                found[name][arm]["path"] = Path(found[name][arm]["path"]).name
            found[name]["speech"]["folder"] = "questions of the bank"
            text = json.dumps(found[name], indent=1)
            (given.figures / f"measure-miniature-{part}-{name}.json").write_text(text, "utf-8")
        fine = table(part, found) and fine
    sys.exit(0 if fine else 1)


def edge(*words: object, fine: tuple[int, ...] = (0,)) -> None:
    """One command of the tool; ends this one where it fails."""
    done = subprocess.run([sys.executable, "-m", "apps.cli", *map(str, words)], check=False)
    if done.returncode not in fine:
        sys.exit(done.returncode)


def write_questions(bank_folder: Path, folder: Path, n: int) -> None:
    """Questions in new words and voices, one of each speaker before a second of any."""
    bank = open_sound(bank_folder)
    asked = [u for split in ("new phrasing and voice", "new voice", "new phrasing")
             for u in bank.of("ask", split)]  # fmt: skip
    rank: dict[str, int] = {}
    order: list[tuple[int, int, Utterance]] = []
    for at, u in enumerate(asked):
        rank[u.speaker] = rank.get(u.speaker, 0) + 1
        order.append((rank[u.speaker], at, u))
    folder.mkdir()
    with (folder / "manifest.tsv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, delimiter="\t")
        rows.writerow(("file", "speaker", "transcript", "source"))
        for at, (_, _, u) in enumerate(sorted(order, key=lambda each: each[:2])[:n]):
            with WavWriter(folder / f"{at:02d}-{u.key}.wav") as writer:
                writer.write(bank.sound_of(u))
            rows.writerow((f"{at:02d}-{u.key}.wav", u.speaker, u.text, "synthesised"))


def table(part: str, found: dict[str, dict[str, object]]) -> bool:
    """Print what was found; returns whether damage grows as bits are taken away."""
    metric, sign = DAMAGE[part]
    print(f"\n{part}: {'form':<12}{'MB':>7}  verdict       metrics")
    for name, one in found.items():
        metrics: dict[str, dict[str, float]] = one["metrics"]  # type: ignore[assignment]
        gates: list[dict[str, str]] = one["gates"]  # type: ignore[assignment]
        shown = [f"{g['metric']} {metrics[g['metric']]['mean']:.3g}" for g in gates
                 if g["metric"] in metrics]  # fmt: skip
        size = one["candidate"]["size_bytes"] / 1e6  # type: ignore[index]
        print(f"       {name:<12}{size:7.1f}  {one['verdict']:<13} {', '.join(shown)}")
    grown = [sign * found[name]["metrics"][metric]["mean"] for name in ORDER[part]]  # type: ignore[index]
    fine = grown == sorted(grown)
    print(f"       damage by {metric}, {' < '.join(ORDER[part])}: {'yes' if fine else 'NO'}")
    return fine


if __name__ == "__main__":
    main()
