"""Files of state dicts: a missing JSON, hostile, damaged and foreign files, importing again."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.importing.checkpoint import import_teacher
from shards.errors import UserError
from tests.support.ordinary_dcgan import small_dcgan
from tests.support.pickles import Reduced
from tests.support.state_files import (
    BOTH_STATES,
    DCGAN,
    DISCRIMINATOR_STATE,
    GENERATOR_STATE,
    STYLEGAN2,
    State,
    assert_refused,
    import_state,
    save_state,
)


def test_import_state_of_nothing_known_says_what_was_found_and_what_is_known(
    tmp_path: Path,
) -> None:
    content = {"epoch": 3, "\x1b[31mnet": {"a.weight": torch.ones(2)}}
    file = save_state(content, tmp_path / "g.pt")
    with pytest.raises(UserError) as raised:
        import_teacher(file, tmp_path / "teacher")
    message = str(raised.value)
    assert message.isprintable()
    assert message.isascii()
    for mention in (str(file), "epoch (int)", "net (dict)", "StyleGAN2 TensorFlow pickle"):
        assert mention in message
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '"stylegan2"', "{}", '{"family": "biggan"}', '{"family": ["dcgan"]}',
     '{"family": null}', "[" * 100_000, '{"family": "module"}'],
    ids=lambda content: content[:20] or "empty",
)  # fmt: skip
def test_import_state_json_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    with pytest.raises(UserError, match=r"architecture\.json") as raised:
        import_state(tmp_path, file, content)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "teacher").exists()


def test_import_state_json_that_is_missing_is_named(tmp_path: Path) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    with pytest.raises(UserError, match=r"nowhere\.json"):
        import_teacher(file, tmp_path / "teacher", architecture=tmp_path / "nowhere.json")
    assert not (tmp_path / "teacher").exists()


def test_import_state_file_that_is_missing_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path, tmp_path / "nowhere.pt", STYLEGAN2)


@pytest.mark.parametrize("place", ["alone", "beside", "nested"])
def test_import_state_that_needs_code_is_refused_and_none_is_run(
    place: str, tmp_path: Path
) -> None:
    touched, file = tmp_path / "touched", tmp_path / "g.pt"
    poison = Reduced(os.system, f"touch {touched}")
    torch.save(
        {
            "alone": poison,
            "beside": GENERATOR_STATE | {"x": poison},
            "nested": {"G_ema": GENERATOR_STATE, "x": {"y": [poison]}},
        }[place],
        file,
    )
    assert_refused(tmp_path, file, STYLEGAN2)
    assert not touched.exists()


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
def test_import_state_whole_module_is_read_without_its_class(is_zip: bool, tmp_path: Path) -> None:
    module = small_dcgan()
    torch.save(module, tmp_path / "netG.pt", _use_new_zipfile_serialization=is_zip)
    import_state(tmp_path, tmp_path / "netG.pt", DCGAN)
    z = torch.randn(2, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z).image, module.outputs(z)[0], rtol=1e-4, atol=1e-5
    )


def test_import_state_old_torch_format_gives_the_same_teacher(tmp_path: Path) -> None:
    save_state(BOTH_STATES, tmp_path / "new.pt")
    torch.save(BOTH_STATES, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    digests = []
    for name in ("new.pt", "old.pt"):
        (tmp_path / name[:3]).mkdir()
        digests.append(import_state(tmp_path / name[:3], tmp_path / name, STYLEGAN2).digests)
    assert digests[0] == digests[1]


def test_import_state_compressed_zip_is_refused(tmp_path: Path) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    packed = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(file) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            target.writestr(member, source.read(member))
    assert_refused(tmp_path, packed, STYLEGAN2, "compressed")


def test_import_state_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "photos.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert_refused(tmp_path, file, STYLEGAN2)
    with zipfile.ZipFile(file, "w"):
        pass
    assert_refused(tmp_path, file, STYLEGAN2)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_import_state_truncated_file_is_named(suffix: str, share: float, tmp_path: Path) -> None:
    file = save_state(BOTH_STATES, tmp_path / f"g{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert_refused(tmp_path, file, STYLEGAN2)


@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 20])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_import_state_first_bytes_alone_are_refused(
    suffix: str, length: int, tmp_path: Path
) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / f"g{suffix}")
    file.write_bytes(file.read_bytes()[:length])
    assert_refused(tmp_path, file, STYLEGAN2)


def test_import_state_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    """A header may promise more than there is; nobody allocates it."""
    header = json.dumps(
        {"x": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}}
    ).encode()
    file = tmp_path / "big.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    assert_refused(tmp_path, file, STYLEGAN2)


def test_import_state_wide_view_of_one_number_is_refused(tmp_path: Path) -> None:
    """torch keeps strides: 4 bytes may claim to be a matrix of any size."""
    wide = torch.zeros(1).expand(1 << 15, 1 << 15, 3, 3)
    file = tmp_path / "wide.pt"
    torch.save(GENERATOR_STATE | {"synthesis.b16.conv1.weight": wide}, file)
    assert_refused(tmp_path, file, STYLEGAN2)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_import_state_again_does_nothing(tmp_path: Path) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    judge = save_state(DISCRIMINATOR_STATE, tmp_path / "d.pt")
    first = import_state(tmp_path, file, STYLEGAN2, discriminator=judge)
    before = snapshot(tmp_path / "teacher")
    assert import_state(tmp_path, file, STYLEGAN2, discriminator=judge) == first
    assert snapshot(tmp_path / "teacher") == before


@pytest.mark.parametrize("change", ["weights", "architecture", "discriminator"])
def test_import_state_of_something_else_into_the_same_folder_is_refused(
    change: str, tmp_path: Path
) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    said: State = dict(STYLEGAN2)
    judge = save_state(DISCRIMINATOR_STATE, tmp_path / "d.pt")
    import_state(tmp_path, file, said, discriminator=judge)
    before = snapshot(tmp_path / "teacher")
    if change == "weights":
        save_state({name: tensor * 2 for name, tensor in GENERATOR_STATE.items()}, file)
    elif change == "architecture":
        said["conv_clamp"] = 1.0
    else:
        save_state({name: tensor * 2 for name, tensor in DISCRIMINATOR_STATE.items()}, judge)
    with pytest.raises(UserError, match="another teacher") as raised:
        import_state(tmp_path, file, said, discriminator=judge)
    assert str(tmp_path / "teacher") in str(raised.value)
    assert snapshot(tmp_path / "teacher") == before


def test_import_state_without_the_discriminator_it_had_is_not_the_same_teacher(
    tmp_path: Path,
) -> None:
    """Importing again does nothing only where it would make the same files."""
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    judge = save_state(DISCRIMINATOR_STATE, tmp_path / "d.pt")
    import_state(tmp_path, file, STYLEGAN2, discriminator=judge)
    with pytest.raises(UserError, match="another teacher"):
        import_state(tmp_path, file, STYLEGAN2)


def test_import_state_into_a_folder_with_other_files_leaves_them(tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "notes.txt").write_text("mine")
    file = save_state(nn.Linear(2, 2).state_dict(), tmp_path / "g.pt")
    with pytest.raises(UserError):
        import_state(tmp_path, file, STYLEGAN2)
    assert [path.name for path in (tmp_path / "teacher").iterdir()] == ["notes.txt"]
