from regcli.registration.features.channels import Channel, channels

FREESURFER = {"0": 0, "2": 1, "41": 1, "3": 2, "42": 2, "10": 3, "49": 3, "502": 0}


def test_types_of_freesurfers_codes_have_its_names():
    assert channels(4, {"codes": FREESURFER}) == (
        Channel("background", (0, 502)),
        Channel("cerebral white matter", (2, 41)),
        Channel("cerebral cortex", (3, 42)),
        Channel("thalamus", (10, 49)),
    )


def test_other_codes_are_not_taken_for_freesurfers():
    found = channels(3, {"codes": {"0": 0, "2": 1, "4": 2, "3": 2}})
    assert [c.name for c in found] == ["background", "code 2", "codes 3, 4"]


def test_without_codes_channels_are_numbered():
    names = ["background", "channel 1", "channel 2"]
    assert [c.name for c in channels(3, {})] == names
    assert [c.name for c in channels(3, {"codes": "none"})] == names
    assert [c.name for c in channels(3, {"codes": {"5": 9}})] == names
