from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import pytest

from edge.errors import DeviceError
from runtime.sound.device_info import DeviceInfo, default_device, match
from runtime.sound.devices import list_devices

USB = DeviceInfo("USB Speakerphone: Audio (hw:1,0)", "ALSA", 1, 2, 48_000, False, False)
PULSE = DeviceInfo("pulse", "ALSA", 32, 32, 44_100, False, False)
DEFAULT = DeviceInfo("default", "ALSA", 32, 32, 44_100, True, True)
SPEAKERS = DeviceInfo("Speakers", "MME", 0, 2, 44_100, False, True)
SPEAKERS_TOO = DeviceInfo("Speakers", "WASAPI", 0, 2, 48_000, False, False)
HERE = [USB, PULSE, DEFAULT, SPEAKERS_TOO, SPEAKERS]


def says(python: str) -> list[str]:
    return [sys.executable, "-c", python]


@pytest.mark.parametrize(
    "wanted",
    [
        "USB Speakerphone: Audio (hw:1,0)",
        "usb speakerphone: audio (HW:1,0)",
        "USB Speakerphone: Audio (hw:1,0), ALSA",
        "USB Speakerphone: Audio",
        "USB Speakerphone: Audio (hw:3,0)",
        "speakerphone",
    ],
)
def test_a_device_is_found_by_its_name_whatever_number_its_card_has_now(wanted: str) -> None:
    for here in (HERE, HERE[::-1]):
        assert match(here, wanted, "input") == USB


def test_an_exact_name_goes_before_a_part_of_another() -> None:
    monitor = replace(PULSE, name="Monitor of pulse")
    assert match([monitor, PULSE], "pulse", "input") == PULSE


def test_a_name_offered_by_two_host_apis_is_the_one_of_the_default() -> None:
    assert match([SPEAKERS_TOO, SPEAKERS], "Speakers", "output") == SPEAKERS
    assert match([SPEAKERS_TOO, SPEAKERS], "Speakers, WASAPI", "output") == SPEAKERS_TOO


@pytest.mark.parametrize(
    ("wanted", "direction", "says_what"),
    [
        ("Bluetooth", "input", "is not one of those here: 'USB"),
        ("l", "output", "means more than one"),
        ("Speakers", "input", "is not one of"),
        ("", "input", "is not one of"),
        ("1", "output", "'1'"),
    ],
)
def test_what_is_not_there_or_not_clear_is_refused_with_what_is(
    wanted: str, direction: str, says_what: str
) -> None:
    here = [USB, PULSE, DEFAULT, SPEAKERS, replace(USB, name="1st", n_outputs=1)]
    with pytest.raises(DeviceError, match=says_what):
        match(here[:4] if wanted != "1" else [*here, replace(USB, name="21")], wanted, direction)  # type: ignore[arg-type]


def test_the_default_is_the_systems_else_the_first_that_can_else_an_error() -> None:
    assert default_device(HERE, "input") == DEFAULT
    assert default_device([SPEAKERS, USB], "input") == USB
    with pytest.raises(DeviceError, match="no microphone"):
        default_device([SPEAKERS], "input")


def test_a_childs_list_comes_back_as_it_was_whatever_libraries_print_around_it() -> None:
    answer = json.dumps({"devices": [asdict(device) for device in HERE]})
    noisy = f"import sys; print('ALSA lib'); sys.stderr.write('noise'); print({answer!r})"
    assert list_devices(command=says(noisy)) == HERE


def test_a_child_that_knows_why_tells_it() -> None:
    answer = json.dumps({"error": "the PortAudio library is not installed; do this"})
    with pytest.raises(DeviceError, match="not installed; do this"):
        list_devices(command=says(f"print({answer!r})"))


@pytest.mark.parametrize(
    ("python", "says_what"),
    [
        ("import os; os.abort()", "exit code -6 and said: nothing"),
        ("raise SystemExit('card on fire')", "exit code 1 and said: card on fire"),
        ("print('[1, 2')", "exit code 0"),
        ("print('{}')", "exit code 0"),
        ('print(\'{"devices": [{"name": 1}]}\')', "exit code 0"),
    ],
)
def test_a_child_that_fails_in_any_way_is_one_clear_line(python: str, says_what: str) -> None:
    with pytest.raises(DeviceError, match=says_what) as caught:
        list_devices(command=says(python))
    assert "\n" not in str(caught.value)


def test_a_sound_system_that_hangs_is_left_alone_in_time() -> None:
    with pytest.raises(DeviceError, match=r"within 0\.2 s"):
        list_devices(timeout_s=0.2, command=says("import signal; signal.pause()"))


def test_the_real_child_lists_devices_or_says_what_is_missing() -> None:
    said = ""
    found: list[DeviceInfo] = []
    try:
        found = list_devices(timeout_s=60)
    except DeviceError as error:
        said = str(error)
    assert not said or "PortAudio" in said or "sounddevice" in said
    assert all(device.name and device.host_api for device in found)
    assert sum(device.is_default_input for device in found) <= 1
