from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from apps.appliance.guide import Heard, opening, run_guide, verdict
from apps.appliance.hooks import Hooks, Line, press, read_hooks, show
from apps.appliance.install import check, install, read_manifest, uninstall
from apps.appliance.layout import planned_files
from apps.appliance.profile import Measured, choose
from apps.daemon.protocol import COMMANDS
from apps.privacy.hide import NAME_SERVICES, STARTERS
from apps.wake import wake_phrase
from edge.config import WakeConfig, check_toml
from edge.errors import ConfigError
from edge.frame import FRAME_SAMPLES, Pcm
from runtime.clock import ManualClock
from runtime.sound.null import NullPort

MOST_EXPOSED = 2.5
MACHINES = {
    "pi 4": Measured(4.0, 3_500_000_000, 4),
    "pi 5": Measured(9.0, 7_500_000_000, 4),
    "orin nano": Measured(30.0, 7_000_000_000, 6, gpu_nodes=("/dev/nvmap",)),
    "orin nx": Measured(60.0, 15_000_000_000, 8, True, "int4 on gpu", ("/dev/nvmap",)),
}
FILES = planned_files(choose(MACHINES["pi 5"]), sys.executable, has_gpio=True)
SERVICE = PurePosixPath("/etc/systemd/system/edgevoice.service")
TMPFILES = PurePosixPath("/etc/tmpfiles.d/edgevoice.conf")
CONFIG = PurePosixPath("/etc/edgevoice/config.toml")


def text_of(path: PurePosixPath) -> str:
    return next(each.text for each in FILES if each.path == path)


def test_installing_twice_changes_nothing_and_removing_leaves_nothing(tmp_path: Path) -> None:
    assert {step.action for step in install(FILES, tmp_path)} == {"write"}
    assert {step.action for step in install(FILES, tmp_path)} == {"same"}
    assert {each.status for each in check(tmp_path)} == {"ok"}
    assert {step.action for step in uninstall(tmp_path)} == {"remove"}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    dry = install(FILES, tmp_path, dry_run=True)
    assert not list(tmp_path.iterdir())
    assert dry == install(FILES, tmp_path)
    assert uninstall(tmp_path, dry_run=True) == uninstall(tmp_path)


def test_what_the_owner_changed_is_kept_and_what_was_damaged_is_mended(tmp_path: Path) -> None:
    install(FILES, tmp_path)
    config, unit = (tmp_path / p.relative_to("/") for p in (CONFIG, SERVICE))
    config.write_text("# mine\n")
    unit.write_text("[Service]\n")
    by_path = {each.name: each.status for each in check(tmp_path)}
    assert (by_path[str(CONFIG)], by_path[str(SERVICE)]) == ("ok", "warn")
    actions = {step.path: step.action for step in install(FILES, tmp_path)}
    assert (actions[CONFIG], actions[SERVICE]) == ("keep", "write")
    config.unlink()
    assert {each.name for each in check(tmp_path) if each.status == "fail"} == {str(CONFIG)}
    install(FILES, tmp_path)
    config.write_text("# mine again\n")
    assert {s.path for s in uninstall(tmp_path) if s.action == "keep"} == {CONFIG}
    assert read_manifest(tmp_path) == {}


@pytest.mark.parametrize("name", MACHINES)
def test_every_profile_gives_settings_that_can_be_read(name: str) -> None:
    profile = choose(MACHINES[name])
    files = planned_files(profile, "/opt/edgevoice/bin/edge", has_gpio=False)
    given = check_toml(next(f.text for f in files if f.path == CONFIG), name)
    assert given["privacy.level"] == "sealed"
    assert given["talk.engine"] == ("duplex" if name == "orin nx" else "cascade")
    unit = next(f.text for f in files if f.path == SERVICE)
    assert ("DeviceAllow=/dev/nvmap rw" in unit) == name.startswith("orin")
    assert "$" not in unit


def test_the_unit_hides_what_the_daemon_would_hide_itself() -> None:
    hidden = re.findall(
        r"-(/\S+)", " ".join(re.findall(r"InaccessiblePaths=(.*)", text_of(SERVICE)))
    )
    wanted = {p for p in NAME_SERVICES + STARTERS if p.startswith("/run")}
    assert wanted <= set(hidden)


def test_the_unit_may_filter_itself_and_its_log_is_there_before_it_starts() -> None:
    """Both were found under a real systemd 252, which starts no unit without them."""
    for unit in (SERVICE, SERVICE.with_name("edgevoice-hooks.service")):
        (allowed,) = re.findall(r"^SystemCallFilter=(@.*)$", text_of(unit), re.MULTILINE)
        assert "seccomp" in allowed.split()
    (log,) = set(re.findall(r"^Standard\w+=append:(.*)$", text_of(SERVICE), re.MULTILINE))
    made = [line.split() for line in text_of(TMPFILES).splitlines()]
    assert ["f", log, "0640", "edgevoice", "edgevoice", "-"] in made
    assert ["d", log.rpartition("/")[0], "0750", "edgevoice", "edgevoice", "-"] in made


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_finds_nothing_wrong_and_little_exposed(tmp_path: Path) -> None:
    install(FILES, tmp_path)
    folder = tmp_path / "etc/systemd/system"
    units = sorted(map(str, folder.iterdir()))
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    ours = [x for x in done.stderr.splitlines() if "edgevoice" in x]
    assert (done.returncode, ours) == (0, [])
    for unit in (each for each in units if each.endswith(".service")):
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", unit],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert found is not None, said
        assert float(found[1]) <= MOST_EXPOSED


def test_hooks_are_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text('script = "/bin/true"\n[button]\nchip = "gpiochip0"\nline = 17\n')
    assert read_hooks(path) == Hooks("/bin/true", Line("gpiochip0", 17), None)
    for wrong in ("lamp = 1", "[button]\nchip = 3\nline = 4", '[light]\nchip = "x"', "script = 1"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"hooks\.toml"):
            read_hooks(path)
    assert read_hooks(Path(__file__).with_name("nothing.toml")) == Hooks()


def test_a_button_holds_to_talk_or_acts_when_pressed() -> None:
    asked: list[tuple[str, dict[str, object]]] = []

    def ask(do: str, **facts: object) -> None:
        assert do in COMMANDS
        asked.append((do, facts))

    for down in (True, False):
        press("talk", ask, down=down)
        press("toggle", ask, down=down)
    assert asked == [("talk", {"down": True}), ("toggle", {}), ("talk", {"down": False})]


def test_states_become_light_and_the_script_is_told(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = tmp_path / "on-state"
    script.write_text(f'#!/bin/sh\necho "$1" >> {said}\n')
    script.chmod(0o755)
    lit: list[bool] = []

    class Lamp:
        def set(self, on: bool) -> None:
            lit.append(on)

    for state in ("idle", "listening", "speaking", "muted"):
        show(state, Hooks(str(script)), Lamp())
    assert lit == [False, True, True, False]
    assert said.read_text().split() == ["idle", "listening", "speaking", "muted"]
    show("idle", Hooks(str(tmp_path / "missing")), None)  # a broken hook harms nobody


@pytest.mark.parametrize(
    ("heard", "useful", "word"),
    [
        (Heard(-99, -99, all_zero=True), False, "nothing at all"),
        (Heard(-80, -70, all_zero=False), False, "nobody"),
        (Heard(-70, -50, all_zero=False), True, "faintly"),
        (Heard(-60, -20, all_zero=False), True, "well"),
        (Heard(-40, -2, all_zero=False), True, "loud"),
    ],
)
def test_the_guide_judges_the_microphone_by_what_it_hears(
    heard: Heard, useful: bool, word: str
) -> None:
    found, said = verdict(heard)
    assert found is useful
    assert word in said


def test_the_guide_speaks_every_sentence_and_hears_a_dead_microphone() -> None:
    shown: list[str] = []
    spoken: list[str] = []

    def speak(text: str) -> Pcm:
        spoken.append(text)
        return np.full(FRAME_SAMPLES + 7, 0.1, np.float32)

    port = NullPort(ManualClock())
    useful = run_guide(port, speak, shown.append, sealed="sealed", button=True, failed=())
    assert not useful
    assert shown == spoken
    assert shown[0].endswith("Nothing you say leaves this machine.")
    assert "nothing at all" in shown[-1]
    words = opening(sealed="off", button=False, phrase=wake_phrase(WakeConfig(enabled=True)))
    assert any("Say hey assistant" in text for text in words)
    assert wake_phrase(WakeConfig()) == ""
    assert not any("leaves" in text for text in opening(sealed="off", button=False))
