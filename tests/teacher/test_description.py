"""What is said of a teacher that somebody may have replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.teacher.description import DISCRIMINATOR_FILE, GENERATOR_FILE, find_teacher
from shards.errors import UserError
from tests.support.tiny_teachers import dcgan, fake_info, lucidrains
from tests.support.workspace import ROOT

DIGITS = ROOT / "teachers" / "digits"


def test_find_teacher_is_of_the_digest_of_either_network_alone(tmp_path: Path) -> None:
    found = find_teacher(DIGITS, "2a672a8939d22a11e21d03bf57b5fed3f4d0a9fabfcd43e0e53fd82d1c4521dd")
    assert found is not None
    assert found.origin["num_real"] == 1437
    assert find_teacher(DIGITS, found.digests[DISCRIMINATOR_FILE]) == found
    assert find_teacher(DIGITS, "0" * 64) is None
    assert find_teacher(DIGITS, None) is None
    assert find_teacher(tmp_path, found.digests[GENERATOR_FILE]) is None


def test_check_method_refuses_what_the_teacher_has_not_the_networks_for() -> None:
    fake_info(lucidrains()).check_method("encoding")
    with pytest.raises(UserError, match=r"encoding: this DCGAN has no mapped latent"):
        fake_info(dcgan()).check_method("encoding")
    with pytest.raises(UserError, match=r"discriminator: this DCGAN has no discriminator"):
        fake_info(dcgan()).check_method("discriminator")
