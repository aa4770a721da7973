"""BigGANs of other people's code: BigGAN-PyTorch's trainings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.speed.reference_biggan import (
    divide_by_norms,
    judge_reference,
    random_generator,
    render_reference,
)
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.description import DISCRIMINATOR_FILE, TeacherInfo
from pipeline.teacher.features import captured, pool
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from shards.errors import UserError
from tests.support.biggan_files import (
    BIGGANS,
    HIERARCHICAL,
    PLAIN,
    SHARED,
    write_training,
)
from tests.support.nearness import assert_near, draw

GOLDEN = Path(__file__).parents[2] / "golden"


def imported(folder: Path, **options: Any) -> tuple[Path, TeacherInfo]:
    teacher = folder.parent / f"{folder.name}-teacher"
    return teacher, import_teacher(folder, teacher, **options)


@pytest.mark.parametrize("name", ["biggan-pytorch-tiny", "biggan-pytorch-cifar-tiny"])
def test_import_golden_training_computes_what_the_reference_does(name: str, tmp_path: Path) -> None:
    info = import_teacher(GOLDEN / name, tmp_path / "teacher")
    assert info.origin["is_averaged"]
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        expected = dict(arrays)
    found = inspect_latents(tmp_path / "teacher", expected["z"], labels=expected.pop("labels"))
    assert {name for name in expected if name.startswith(("pooled", "discr"))} > {
        "pooled.blocks.0.0"
    }
    for key, value in expected.items():
        assert_near(found[key], value)


@pytest.mark.parametrize("name", BIGGANS)
def test_import_training_of_any_size_equals_plain_torch(name: str, tmp_path: Path) -> None:
    sizes = BIGGANS[name]
    state, judge = write_training(tmp_path / "run", sizes, BN_eps=1e-3)
    teacher, info = imported(tmp_path / "run")
    assert info.generator.num_classes == sizes.num_classes
    z, classes = draw(5, sizes.z_dim), torch.arange(5) % sizes.num_classes
    image, features = render_reference(divide_by_norms(state, 1e-6), z, classes, eps=1e-3)
    found = inspect_latents(teacher, z.numpy(), labels=classes.numpy())
    assert_near(found["image"], image)
    logits, judged = judge_reference(
        divide_by_norms(judge, 1e-6), image, classes, sizes.num_halvings
    )
    assert_near(found["logits"], logits)
    for prefix, maps in (("pooled", features), ("discriminator", judged)):
        for key, map_ in maps.items():
            assert_near(found[f"{prefix}.{key}"], pool(map_))
    assert list(info.blocks) == list(features)


def test_import_suffixed_file_takes_its_own_discriminator_and_options(tmp_path: Path) -> None:
    write_training(tmp_path / "run", PLAIN)
    state, _ = write_training(tmp_path / "run", PLAIN, "_best0", seed=7, BN_eps=1e-2)
    teacher = tmp_path / "teacher"
    info = import_teacher(tmp_path / "run" / "G_ema_best0.pth", teacher)
    assert info.origin["weights"] == "G_ema_best0.pth"
    assert {name for name in info.origin if name.endswith("_sha256")} == {
        "D_best0.pth_sha256",
        "state_dict_best0.pth_sha256",
    }
    z, classes = draw(3, PLAIN.z_dim), torch.tensor([0, 4, 2])
    image, _ = render_reference(divide_by_norms(state, 1e-6), z, classes, eps=1e-2)
    assert_near(inspect_latents(teacher, z.numpy(), labels=classes.numpy())["image"], image)


def test_import_folder_of_copies_takes_the_one_without_a_suffix_or_asks(tmp_path: Path) -> None:
    for suffix in ("_copy0", "_best1"):
        write_training(tmp_path / "run", PLAIN, suffix)
    with pytest.raises(UserError, match=r"several.*G_ema_best1\.pth, G_ema_copy0\.pth"):
        imported(tmp_path / "run")
    write_training(tmp_path / "run", PLAIN)
    assert imported(tmp_path / "run")[1].origin["weights"] == "G_ema.pth"


def test_import_raw_file_takes_the_averaged_one_beside_it(tmp_path: Path) -> None:
    write_training(tmp_path / "run", PLAIN)
    info = import_teacher(tmp_path / "run" / "G.pth", tmp_path / "teacher")
    assert info.origin["weights"] == "G_ema.pth"
    assert info.origin["is_averaged"]


def test_import_training_without_averaged_weights_says_so(tmp_path: Path) -> None:
    write_training(tmp_path / "run", PLAIN)
    (tmp_path / "run" / "G_ema.pth").unlink()
    _, info = imported(tmp_path / "run")
    assert info.origin["weights"] == "G.pth"
    assert info.origin["is_averaged"] is False
    assert any("not averaged" in note for note in info.origin["notes"])


@pytest.mark.parametrize("key", ["", "generator"])
def test_import_lone_file_of_any_name_is_a_generator(key: str, tmp_path: Path) -> None:
    state = random_generator(HIERARCHICAL)
    file = tmp_path / "somebody.pt"
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({key: wrapped, "epoch": 3} if key else wrapped, file)
    info = import_teacher(file, tmp_path / "teacher")
    assert info.discriminator is None
    assert not (tmp_path / "teacher" / DISCRIMINATOR_FILE).exists()
    assert any("SN_eps" in note and "1e-08" in note for note in info.origin["notes"])
    z, classes = draw(3, HIERARCHICAL.z_dim), torch.tensor([0, 2, 1])
    image, _ = render_reference(divide_by_norms(state, 1e-8), z, classes)
    found = inspect_latents(tmp_path / "teacher", z.numpy(), labels=classes.numpy())
    assert_near(found["image"], image)


def test_import_one_file_of_everything_takes_the_averaged_weights(tmp_path: Path) -> None:
    averaged, judge = write_training(tmp_path / "run", SHARED)
    content = {
        "G": random_generator(SHARED, 9),
        "G_ema": averaged,
        "D": judge,
        "config": {"SN_eps": 1e-6, "BN_eps": 1e-3, "resolution": 16, "n_classes": 4},
    }
    torch.save(content, tmp_path / "everything.pth")
    info = import_teacher(tmp_path / "everything.pth", tmp_path / "teacher")
    assert info.discriminator is not None
    assert info.origin["is_averaged"]
    z, classes = draw(3, SHARED.z_dim), torch.tensor([0, 3, 2])
    image, _ = render_reference(divide_by_norms(averaged, 1e-6), z, classes, eps=1e-3)
    found = inspect_latents(tmp_path / "teacher", z.numpy(), labels=classes.numpy())
    assert_near(found["image"], image)


def test_import_safetensors_of_a_training(tmp_path: Path) -> None:
    averaged, judge = write_training(tmp_path / "run", PLAIN)
    for name in ("G", "G_ema", "D"):
        (tmp_path / "run" / f"{name}.pth").unlink()
    save_file(averaged, tmp_path / "run" / "G_ema.safetensors")
    save_file(judge, tmp_path / "run" / "D.safetensors")
    _, info = imported(tmp_path / "run")
    assert info.discriminator is not None
    assert not info.origin["notes"], "state_dict.pth is still there"


def test_import_lone_file_with_a_discriminator_named_has_it(tmp_path: Path) -> None:
    write_training(tmp_path / "run", SHARED)
    for name, target in (("G_ema.pth", "gan.pt"), ("D.pth", "judge.pt")):
        (tmp_path / "run" / name).rename(tmp_path / target)
    info = import_teacher(
        tmp_path / "gan.pt", tmp_path / "teacher", discriminator=tmp_path / "judge.pt"
    )
    assert info.discriminator is not None
    assert info.discriminator.resolution == 16


@pytest.mark.parametrize("statistics", ["bn.stored", "bn.running"])
def test_import_other_names_of_statistics_are_known(statistics: str, tmp_path: Path) -> None:
    """Of trainings with --mybn and with --cross_replica, which keep counters beside them."""
    state = random_generator(PLAIN)
    renamed = {name.replace("stored", statistics): tensor for name, tensor in state.items()}
    for norm in ("blocks.0.0.bn1", "output_layer.0"):
        renamed[f"{norm}.bn.accumulation_counter"] = torch.ones(1)
        renamed[f"{norm}.bn.num_batches_tracked"] = torch.tensor(5)
    torch.save(renamed, tmp_path / "G_ema.pth")
    import_teacher(tmp_path / "G_ema.pth", tmp_path / "teacher")
    z, classes = draw(3, PLAIN.z_dim), torch.tensor([0, 4, 2])
    image, _ = render_reference(divide_by_norms(state, 1e-8), z, classes)
    found = inspect_latents(tmp_path / "teacher", z.numpy(), labels=classes.numpy())
    assert_near(found["image"], image)


def test_import_training_over_replicas_says_what_differs(tmp_path: Path) -> None:
    write_training(tmp_path / "run", PLAIN, cross_replica=True)
    _, info = imported(tmp_path / "run")
    assert any("cross_replica" in note for note in info.origin["notes"])


def test_import_epsilon_of_spectral_norms_is_that_of_the_training(tmp_path: Path) -> None:
    state, _ = write_training(tmp_path / "run", PLAIN, SN_eps=5)
    teacher, _ = imported(tmp_path / "run")
    z, classes = draw(3, PLAIN.z_dim), torch.tensor([0, 4, 2])
    image, _ = render_reference(divide_by_norms(state, 5.0), z, classes)
    usual, _ = render_reference(divide_by_norms(state, 1e-8), z, classes)
    assert (image - usual).abs().max() > 0.1
    found = inspect_latents(teacher, z.numpy(), labels=classes.numpy())["image"]
    assert_near(found, image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resolution": 64}, "resolution is 64, the weights have 16"),
        ({"n_classes": 1000}, "n_classes is 1000, the weights have 5"),
        ({"G_nl": "leaky_relu"}, "G_nl is leaky_relu"),
        ({"BN_eps": "small"}, "BN_eps must be a number"),
        ({"SN_eps": -1.0}, "SN_eps must be a number"),
        ({"SN_eps": float("nan")}, "SN_eps must be a number"),
        ({"BN_eps": 5.0}, "bn_eps"),
    ],
)
def test_import_options_that_do_not_fit_are_named_and_nothing_is_written(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    write_training(tmp_path / "run", PLAIN, **options)
    with pytest.raises(UserError, match=words):
        imported(tmp_path / "run")
    assert not (tmp_path / "run-teacher").exists()


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("blocks.0.0.conv2.weight", None, "blocks.0.0.conv2.weight"),
        ("blocks.1.0.bn2.gain.weight", (3, 8), r"G_ema\.pth: blocks\.1\.0\.bn2\.gain\.weight is"),
        ("blocks.0.0.conv1.u0", (1, 3), "u0 has 3"),
        ("blocks.0.0.conv1.weight", (), r"blocks\.0\.0\.conv1\.weight is \[\]"),
        ("blocks.0.0.conv1.weight", (8, 0, 3, 3), r"blocks\.0\.0\.conv1\.weight is \[8, 0"),
        ("linear.weight", (0, 12), r"linear\.weight is \[0, 12\]"),
        ("blocks.0.0.conv3.weight", (8, 8, 3, 3), "BigGAN-deep"),
        ("blocks.0.0.bn1.stored_mean", None, "blocks.0.0.bn1.stored_mean"),
        ("blocks.2.0.conv7.weight", (8, 8, 3, 3), "blocks.2.0.conv7.weight"),
    ],
)
def test_import_tensors_that_do_not_fit_are_named(
    name: str, shape: tuple[int, ...] | None, words: str, tmp_path: Path
) -> None:
    state = random_generator(PLAIN)
    state.pop(name, None)
    if shape is not None:
        state[name] = torch.ones(shape)
    torch.save(state, tmp_path / "G_ema.pth")
    with pytest.raises(UserError, match=words):
        import_teacher(tmp_path / "G_ema.pth", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize("name", ["G_ema", "D", "state_dict"])
def test_import_training_with_a_hostile_file_executes_nothing(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {marker}",)

    write_training(tmp_path / "run", PLAIN)
    file = tmp_path / "run" / f"{name}.pth"
    content = torch.load(file, weights_only=name != "state_dict")
    torch.save(content | {"more": Hostile()}, file)
    with pytest.raises(UserError, match=rf"{name}\.pth.*system"):
        imported(tmp_path / "run")
    assert not marker.exists()
    assert not (tmp_path / "run-teacher").exists()


def test_import_misfit_of_the_discriminator_names_its_file(tmp_path: Path) -> None:
    _, judge = write_training(tmp_path / "run", PLAIN)
    del judge["blocks.1.0.conv1.weight"]
    torch.save(judge, tmp_path / "run" / "D.pth")
    with pytest.raises(UserError, match=r"D\.pth: blocks\.1\.0\.conv1\.weight"):
        imported(tmp_path / "run")


@pytest.mark.parametrize("name", ["blocks.0.0.conv1", "blocks.1.0.bn2", "output_layer.2"])
def test_imported_training_any_submodule_is_a_feature(name: str, tmp_path: Path) -> None:
    write_training(tmp_path / "run", SHARED)
    teacher, info = imported(tmp_path / "run")
    generator = load_generator(teacher)
    sizes = {feature.name: (feature.num_channels, feature.resolution) for feature in info.features}
    with captured(generator.feature_root, [name]) as found:
        generator(draw(2, 10), labels=torch.eye(4)[:2])
    assert found[name].shape == (2, sizes[name][0], sizes[name][1], sizes[name][1])


def test_imported_discriminator_features_do_not_depend_on_labels(tmp_path: Path) -> None:
    write_training(tmp_path / "run", SHARED)
    discriminator = load_discriminator(imported(tmp_path / "run")[0])
    images = draw(3, 3, 16, 16)
    judged = []
    for labels in (torch.eye(4)[:3], torch.zeros(3, 4), None):
        with captured(discriminator.feature_root, [discriminator.last]) as found:
            judged.append((discriminator(images, labels), found["activation"]))
    (known, first), (zeros, second), (nothing, _) = judged
    assert torch.equal(first, second)
    assert torch.equal(zeros, nothing)
    assert (known - zeros).abs().max() > 0.01
