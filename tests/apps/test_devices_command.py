from __future__ import annotations

import json

import pytest

from apps.cli.devices import report
from edge.errors import DeviceError
from runtime.sound.device_info import DeviceInfo

CARD = DeviceInfo("USB Card [x]", "ALSA", 1, 2, 48_000, True, False)
SPEAKER = DeviceInfo("Loud", "ALSA", 0, 6, 44_100, False, True)


def test_json_is_one_object_from_which_the_devices_can_be_made_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report([CARD, SPEAKER], as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert [DeviceInfo(**entry) for entry in answer["devices"]] == [CARD, SPEAKER]


def test_the_table_names_every_device_what_it_can_do_and_the_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report([CARD, SPEAKER], as_json=False)
    _, card, speaker = capsys.readouterr().out.rstrip().splitlines()
    columns = "USB Card [x] ALSA 1 channel (default) 2 channels 48000"
    assert card.split() == columns.split()
    assert speaker.split() == ["Loud", "ALSA", "6", "channels", "(default)", "44100"]


def test_a_machine_that_cannot_hear_or_speak_is_not_fine_but_still_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(DeviceError, match="no microphone"):
        report([SPEAKER], as_json=True)
    assert json.loads(capsys.readouterr().out)["devices"][0]["name"] == "Loud"
    with pytest.raises(DeviceError, match="no microphone"):
        report([], as_json=False)
