from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.engine.state import load_state, save_state
from shards.atomic import exclusive
from shards.errors import UserError

CPU = torch.device("cpu")


def test_state_round_trip_and_absence(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    assert load_state(path, CPU, "a") is None
    save_state(path, {"fingerprint": "a", "weights": torch.arange(5.0), "clock": 7})
    state = load_state(path, CPU, "a")
    assert state is not None
    assert state["clock"] == 7
    assert torch.equal(state["weights"], torch.arange(5.0))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_state_with_one_altered_byte_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"fingerprint": "a", "weights": torch.randn(1000)})
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt"):
        load_state(path, CPU, "a")


def test_state_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"fingerprint": "a"})
    with pytest.raises(UserError, match="other settings"):
        load_state(path, CPU, "b")


def test_exclusive_folder_lets_in_one_at_a_time(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "run"),
        pytest.raises(UserError, match="run"),
        exclusive(tmp_path / "run"),
    ):
        pass
    with exclusive(tmp_path / "run"):
        pass
