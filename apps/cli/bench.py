"""`edge bench`: measure this machine. One module a bench, imported only when it is asked for."""

from __future__ import annotations

import click

from apps.cli.lazy import Lazy, LazyGroup

BENCHES = {
    "talk": Lazy("apps.cli.bench_talk:bench_talk", "Questions through the real-time loop."),
    "soak": Lazy("apps.cli.bench_soak:bench_soak", "A long conversation: memory and latency."),
    "daemon": Lazy("apps.cli.bench_daemon:bench_daemon", "Hours of it, commands, lost cards."),
    "wake": Lazy("apps.cli.bench_wake:bench_wake", "Does the wake word wake, and nothing else?"),
    "conditions": Lazy(
        "apps.cli.bench_conditions:bench_conditions", "Words and latency over poor lines."
    ),
    "echo": Lazy("apps.cli.bench_echo:bench_echo", "Does the assistant hear itself?"),
    "codec": Lazy("apps.cli.bench_codec:codec", "Encode and decode a frame, against peers."),
    "duplex": Lazy("apps.cli.bench_duplex:bench_duplex", "The multistream model, stage by stage."),
    "asr": Lazy("apps.cli.bench_asr:bench_asr", "The recogniser: word errors and speed."),
}


@click.group(cls=LazyGroup, table=BENCHES)
def bench() -> None:
    """Measure speed on this machine."""
