"""Plain state dicts with a small JSON: what they compute, and every way in which one is refused."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.teacher.architecture import DiscriminatorArchitecture, StyleGAN2Architecture
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.description import TeacherInfo, read_teacher_info
from pipeline.teacher.discriminator import Discriminator
from pipeline.teacher.features import captured
from pipeline.teacher.importing import import_teacher
from pipeline.teacher.stylegan2 import Generator
from shards.errors import UserError
from tests.tiny_shards import ARCHITECTURE, DISCRIMINATOR, random_generator

State = dict[str, Any]
DCGAN = {"family": "dcgan"}
STYLEGAN2 = {"family": "stylegan2"}


def save_state(content: State, path: Path) -> Path:
    """As the suffix says."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def write_json(folder: Path, content: Any, name: str = "architecture.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def import_state(folder: Path, file: Path, said: Any, **more: Any) -> TeacherInfo:
    architecture = write_json(folder, said)
    return import_teacher(file, folder / "teacher", architecture=architecture, **more)


def assert_refused(folder: Path, file: Path, said: Any, *mentions: str, **more: Any) -> None:
    """One line that names the file, and nothing written."""
    with pytest.raises(UserError) as raised:
        import_state(folder, file, said, **more)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 1000
    for mention in (str(file), *mentions):
        assert mention in message
    assert not (folder / "teacher").exists()


@dataclass(frozen=True)
class Layer:
    """An ordinary transposed convolution."""

    width: int
    kernel: int = 4
    stride: int = 2
    padding: int = 1
    output_padding: int = 0


FIRST = {"stride": 1, "padding": 0}


class OrdinaryDCGAN(nn.Module):
    """As in every tutorial: `main` is ConvTranspose2d, BatchNorm2d, ReLU, …, ConvTranspose2d,
    Tanh.
    """

    def __init__(
        self, z_dim: int, layers: list[Layer], *, has_bias: bool = False, has_norm: bool = True
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for index, layer in enumerate(layers):
            conv = nn.ConvTranspose2d(
                z_dim if index == 0 else layers[index - 1].width,
                layer.width,
                layer.kernel,
                layer.stride,
                layer.padding,
                layer.output_padding,
                bias=has_bias,
            )
            modules.append(conv)
            if index == len(layers) - 1:
                modules.append(nn.Tanh())
                continue
            if has_norm:
                modules.append(nn.BatchNorm2d(layer.width))
            modules.append(nn.ReLU())
        self.z_dim = z_dim
        self.main = nn.Sequential(*modules)
        self._randomise()

    @torch.no_grad()
    def _randomise(self) -> None:
        """Every tensor acts, the running statistics among them."""
        generator = torch.Generator().manual_seed(7)
        for name, tensor in self.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point():
                scale = 0.3 if tensor.dim() == 4 else 0.5
                tensor.normal_(generator=generator).mul_(scale)
        self.eval()

    @torch.no_grad()
    def outputs(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images, and what comes out of every ReLU."""
        x, features = z[:, :, None, None], []
        for module in self.main:
            x = module(x)
            if isinstance(module, nn.ReLU):
                features.append(x)
        return x, features


@dataclass(frozen=True)
class Case:
    """A DCGAN, and what the JSON has to say of it."""

    name: str
    layers: list[Layer]
    z_dim: int = 7
    has_bias: bool = False
    has_norm: bool = True
    lists: tuple[str, ...] = ()

    def module(self) -> OrdinaryDCGAN:
        return OrdinaryDCGAN(
            self.z_dim, self.layers, has_bias=self.has_bias, has_norm=self.has_norm
        )

    @property
    def said(self) -> dict[str, Any]:
        return DCGAN | {
            name: [getattr(layer, name.removesuffix("s")) for layer in self.layers]
            for name in self.lists
        }


ALL_LISTS = ("strides", "paddings", "output_paddings")
SMALL = [Layer(6, **FIRST), Layer(5), Layer(3)]
CASES = [
    Case("two-layers", [Layer(6, **FIRST), Layer(3)]),
    Case("three-layers", SMALL),
    Case("five-layers", [Layer(16, **FIRST), Layer(12), Layer(8), Layer(4), Layer(3)], z_dim=20),
    Case(
        "six-layers",
        [Layer(9, **FIRST), Layer(8), Layer(7), Layer(6), Layer(5), Layer(3)],
        z_dim=1,
    ),
    Case("equal-widths", [Layer(4, **FIRST), Layer(4), Layer(4), Layer(4), Layer(4)], z_dim=4),
    Case("wide-and-grey", [Layer(64, **FIRST), Layer(32), Layer(1)], z_dim=100),
    Case("biases", SMALL, has_bias=True),
    Case("no-norms", SMALL, has_norm=False),
    Case(
        "no-norms-but-biases-five-layers",
        [Layer(6, **FIRST), Layer(5), Layer(4), Layer(5), Layer(3)],
        has_norm=False,
        has_bias=True,
    ),
    Case("said-as-usual", SMALL, lists=ALL_LISTS),
    Case(
        "kernels-3-and-5",
        [
            Layer(6, 4, 1, 0),
            Layer(5, 3, 2, 1, 1),
            Layer(4, 5, 2, 2, 1),
            Layer(3, 3, 1, 1),
        ],
        lists=ALL_LISTS,
    ),
    Case(
        "digits-of-28-pixels",
        [Layer(6, 7, 1, 0), Layer(5, 5, 1, 2), Layer(4, 4), Layer(1, 4)],
        lists=("strides", "paddings"),
    ),
    Case("first-kernel-8", [Layer(6, 8, 1, 0), Layer(3, 2, 2, 0)]),
    Case("stride-3", [Layer(6, 4, 1, 0), Layer(3, 5, 3, 1)], lists=("strides",)),
]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_import_dcgan_makes_the_images_and_features_of_the_original(
    case: Case, suffix: str, tmp_path: Path
) -> None:
    module = case.module()
    file = save_state(module.state_dict(), tmp_path / f"netG{suffix}")
    info = import_state(tmp_path, file, case.said)
    generator = load_generator(tmp_path / "teacher")
    z = torch.randn(5, case.z_dim, generator=torch.Generator().manual_seed(1))
    image, features = module.outputs(z)
    with captured(generator.feature_root, generator.blocks) as found:
        output = generator(z)
    # Imported networks are channels-last, where float32 sums run in another order: 1e-5, not bits.
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(output.image, image, **tolerance)
    assert len(info.blocks) == len(features)
    for name, feature in zip(info.blocks, features, strict=True):
        torch.testing.assert_close(found[name], feature, **tolerance)
    assert torch.equal(output.ws, z[:, None])
    sizes = [(feature.shape[1], feature.shape[2]) for feature in features]
    blocks = [feature for feature in info.features if feature.is_block]
    assert [(block.num_channels, block.resolution) for block in blocks] == sizes
    arch = info.generator
    assert (arch.resolution, arch.image_channels) == (image.shape[3], image.shape[1])
    assert (arch.z_dim, arch.w_dim, arch.num_classes) == (case.z_dim, case.z_dim, 0)


@pytest.mark.parametrize("prefix", ["generator.", "G_ema."])
def test_import_dcgan_beside_a_discriminator_takes_the_generator(
    prefix: str, tmp_path: Path
) -> None:
    module = CASES[1].module()
    content = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    content |= {"discriminator.main.0.weight": torch.zeros(4, 3, 4, 4), "steps": torch.tensor(3)}
    import_state(tmp_path, save_state(content, tmp_path / "both.pt"), DCGAN)
    z = torch.randn(2, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z).image, module.outputs(z)[0], rtol=1e-4, atol=1e-5
    )


def test_import_dcgan_in_float16_is_computed_in_float32(tmp_path: Path) -> None:
    module = CASES[1].module()
    content = {
        name: value.half() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    import_state(tmp_path, save_state(content, tmp_path / "half.pt"), DCGAN)
    module.load_state_dict(content)
    z = torch.randn(2, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z).image, module.outputs(z)[0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("said", "mention"),
    [
        ({"strides": [1, 2]}, "strides"),
        ({"strides": [1, 2, 2, 2]}, "strides"),
        ({"strides": []}, "strides"),
        ({"strides": 2}, "strides"),
        ({"strides": "122"}, "strides"),
        ({"strides": [1, 2, 2.0]}, "strides"),
        ({"strides": [1, 2, True]}, "strides"),
        ({"paddings": [0, 1]}, "paddings"),
        ({"output_paddings": [0, 0, 0, 0]}, "output_paddings"),
        ({"strides": [1, 2, 0]}, "stride"),
        ({"strides": [1, 2, -2]}, "stride"),
        ({"strides": [1, 2, 10**30]}, "stride"),
        ({"paddings": [0, -1, 1]}, "padding"),
        ({"paddings": [0, 1, 10**30]}, "padding"),
        ({"paddings": [0, 9, 1]}, "padding"),
        ({"output_paddings": [0, 0, 2]}, "output_padding"),
        ({"output_paddings": [0, 0, -1]}, "output_padding"),
        ({"kernels": [4, 4, 4]}, "kernels"),
        ({"stride": [1, 2, 2]}, "stride"),
        ({"z_dim": 7}, "z_dim"),
    ],
    ids=str,
)
def test_import_dcgan_json_that_cannot_be_names_the_field(
    said: dict[str, Any], mention: str, tmp_path: Path
) -> None:
    file = save_state(CASES[1].module().state_dict(), tmp_path / "netG.pt")
    assert_refused(tmp_path, file, DCGAN | said, mention)


def without(*endings: str) -> Callable[[State], State]:
    return lambda state: {
        name: value for name, value in state.items() if not name.endswith(endings)
    }


def with_tensor(name: str, value: Tensor) -> Callable[[State], State]:
    return lambda state: state | {name: value}


NOT_DCGAN: dict[str, Callable[[State], State]] = {
    "linear-layers": lambda _: nn.Sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
    ).state_dict(),
    "one-linear-layer": lambda _: nn.Linear(4, 3).state_dict(),
    "one-layer": lambda _: nn.ConvTranspose2d(4, 3, 4).state_dict(),
    "three-dimensional": lambda _: nn.Sequential(
        nn.ConvTranspose3d(4, 3, 4), nn.ConvTranspose3d(3, 3, 4)
    ).state_dict(),
    "linear-in-front": lambda state: {"fc.weight": torch.zeros(7, 7), **state},
    "linear-behind": with_tensor("fc.weight", torch.zeros(7, 7)),
    "norm-in-front": lambda state: {
        "norm.weight": torch.ones(7),
        "norm.bias": torch.zeros(7),
        "norm.running_mean": torch.zeros(7),
        "norm.running_var": torch.ones(7),
        **state,
    },
    "norm-without-statistics": without("running_mean", "running_var", "num_batches_tracked"),
    "norm-without-scale": without("1.weight", "1.bias"),
    "channels-do-not-match": with_tensor("main.3.weight", torch.zeros(4, 5, 4, 4)),
    "norm-does-not-match": with_tensor("main.1.running_mean", torch.zeros(5)),
    "kernel-not-square": with_tensor("main.3.weight", torch.zeros(6, 5, 4, 2)),
    "bias-does-not-match": with_tensor("main.3.bias", torch.zeros(6)),
    "not-finite": with_tensor("main.3.weight", torch.full((6, 5, 4, 4), torch.nan)),
    "not-finite-statistics": with_tensor("main.1.running_var", torch.full((6,), torch.inf)),
    "not-finite-in-float32": with_tensor(
        "main.3.weight", torch.full((6, 5, 4, 4), 1e300, dtype=torch.float64)
    ),
    "scalar-beside": with_tensor("steps", torch.tensor(3)),
    "nothing": lambda _: {},
    "no-tensors": lambda _: {"epoch": 3, "name": "netG"},
    "a-tensor": lambda _: torch.zeros(3),  # type: ignore[arg-type, return-value]
    "a-list": lambda state: list(state.values()),  # type: ignore[arg-type, return-value]
}


@pytest.mark.parametrize("name", NOT_DCGAN)
def test_import_dcgan_state_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    state = dict(CASES[1].module().state_dict())
    file = tmp_path / "netG.pt"
    torch.save(NOT_DCGAN[name](state), file)
    assert_refused(tmp_path, file, DCGAN)


def test_import_dcgan_with_two_norms_after_a_layer_is_refused(tmp_path: Path) -> None:
    """There is a place for one only: leaving the other out would give other images."""
    module = nn.Sequential(
        nn.ConvTranspose2d(7, 6, 4),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.BatchNorm2d(6),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
    )
    file = save_state(module.state_dict(), tmp_path / "netG.pt")
    assert_refused(tmp_path, file, DCGAN)


def test_import_dcgan_with_a_norm_after_the_last_layer_computes_it(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.ConvTranspose2d(7, 6, 4),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
        nn.BatchNorm2d(3),
        nn.Tanh(),
    ).eval()
    norm = module[3]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean, norm.running_var = torch.rand(3), torch.rand(3) + 0.5
    import_state(tmp_path, save_state(module.state_dict(), tmp_path / "netG.pt"), DCGAN)
    z = torch.randn(2, 7)
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z).image,
        module(z[:, :, None, None]),
        rtol=1e-4,
        atol=1e-5,
    )


def generator_state(arch: StyleGAN2Architecture = ARCHITECTURE) -> tuple[Generator, State]:
    if arch == ARCHITECTURE:
        generator = random_generator()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            generator = Generator(arch).eval().requires_grad_(False)
    return generator, dict(generator.state_dict())


def discriminator_state() -> tuple[Discriminator, State]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        discriminator = Discriminator(DISCRIMINATOR).eval().requires_grad_(False)
    return discriminator, dict(discriminator.state_dict())


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without_mapping(arch: DiscriminatorArchitecture) -> DiscriminatorArchitecture:
    """Its mapping layers count only with classes; these discriminators have none."""
    return replace(arch, num_mapping_layers=0)


def assert_same_teacher(folder: Path, *, has_discriminator: bool) -> None:
    z = torch.randn(4, ARCHITECTURE.z_dim, generator=torch.Generator().manual_seed(1))
    image = generator_state()[0](z, "const").image
    found = load_generator(folder)(z, "const").image
    torch.testing.assert_close(found, image, rtol=1e-4, atol=1e-5)
    info = read_teacher_info(folder)
    assert info.generator == ARCHITECTURE
    if info.discriminator is None:
        assert not has_discriminator
    else:
        assert without_mapping(info.discriminator) == without_mapping(DISCRIMINATOR)
        wanted = discriminator_state()[0](image)
        torch.testing.assert_close(load_discriminator(folder)(image), wanted, rtol=1e-4, atol=1e-4)


G, D = generator_state()[1], discriminator_state()[1]
LAYOUTS: dict[str, State] = {
    "bare": G,
    "G_ema": prefixed("G_ema.", G),
    "generator": prefixed("generator.", G),
    "G_ema-and-D": prefixed("G_ema.", G) | prefixed("D.", D),
    "generator-and-discriminator": prefixed("discriminator.", D) | prefixed("generator.", G),
    "bare-and-D": G | prefixed("D.", D),
    "with-the-last-G": prefixed("G.", {name: tensor * 0 for name, tensor in G.items()})
    | prefixed("D.", D)
    | prefixed("G_ema.", G),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_import_stylegan2_names_of_every_layout_give_the_same_teacher(
    layout: str, suffix: str, tmp_path: Path
) -> None:
    content = LAYOUTS[layout]
    file = save_state(content, tmp_path / f"state{suffix}")
    import_state(tmp_path, file, STYLEGAN2)
    has_discriminator = any(name.startswith(("D.", "discriminator.")) for name in content)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=has_discriminator)


@pytest.mark.parametrize(
    "content",
    [
        {"G_ema": G, "D": D},
        {"D": D, "G_ema": G, "step": 3, "config": {"lr": 0.1}, "note": "best"},
        {"generator": nn.ParameterDict(), "G_ema": G, "discriminator": D},
    ],
    ids=["two", "with-other-things", "with-an-empty-one"],
)
def test_import_stylegan2_nested_dictionaries_are_joined(content: State, tmp_path: Path) -> None:
    content = {name: dict(part) if isinstance(part, nn.ParameterDict) else part
               for name, part in content.items()}  # fmt: skip
    file = save_state(content, tmp_path / "nested.pt")
    import_state(tmp_path, file, STYLEGAN2)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_import_stylegan2_discriminator_may_be_a_file_of_its_own(
    suffix: str, tmp_path: Path
) -> None:
    file = save_state(G, tmp_path / f"g{suffix}")
    judge = save_state(D, tmp_path / f"d{suffix}")
    import_state(tmp_path, file, STYLEGAN2, discriminator=judge)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)


def test_import_stylegan2_names_left_out_are_the_usual_filter_and_no_noise(tmp_path: Path) -> None:
    generator = random_generator()
    for name, tensor in generator.state_dict().items():
        if name.endswith("noise_strength"):
            tensor.zero_()
    left_out = ("resample_filter", "noise_strength", "noise_const")
    state = without(*left_out)(dict(generator.state_dict()))
    import_state(tmp_path, save_state(state, tmp_path / "g.pt"), STYLEGAN2)
    z = torch.randn(2, ARCHITECTURE.z_dim)
    found = load_generator(tmp_path / "teacher")
    for noise in ("const", "none"):
        torch.testing.assert_close(
            found(z, noise).image, generator(z, "none").image, rtol=1e-4, atol=1e-5
        )


AGREEING = [
    asdict(ARCHITECTURE),
    {**asdict(ARCHITECTURE), "discriminator": asdict(DISCRIMINATOR)},
    STYLEGAN2 | {"resolution": 16},
    STYLEGAN2 | {"channel_base": 140},  # the same widths as 128
    STYLEGAN2 | {"discriminator": {"mbstd_group_size": 4, "skips": "orig"}},
    STYLEGAN2 | {"discriminator": {}},
]


@pytest.mark.parametrize("said", AGREEING, ids=range(len(AGREEING)))
def test_import_stylegan2_json_that_agrees_changes_nothing(
    said: dict[str, Any], tmp_path: Path
) -> None:
    file = save_state(LAYOUTS["G_ema-and-D"], tmp_path / "state.pt")
    import_state(tmp_path, file, said)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)


@pytest.mark.parametrize(
    ("said", "mention"),
    [
        ({"resolution": 32}, "resolution"),
        ({"resolution": 10**30}, "resolution"),
        ({"resolution": 1 << 40}, "resolution"),
        ({"resolution": -16}, "resolution"),
        ({"resolution": "big"}, "resolution"),
        ({"z_dim": 9}, "z_dim"),
        ({"w_dim": 10**12}, "w_dim"),
        ({"num_mapping_layers": 3}, "num_mapping_layers"),
        ({"num_mapping_layers": 10**9}, "num_mapping_layers"),
        ({"channel_base": 127}, "channel_base"),
        ({"channel_base": 256}, "channel_base"),
        ({"channel_max": 11}, "channel_max"),
        ({"channel_max": 10**9}, "channel_max"),
        ({"image_channels": 1}, "image_channels"),
        ({"num_classes": 2}, "num_classes"),
        ({"skips": "resnet"}, "skips"),
        ({"skips": "none"}, "skips"),
        ({"depth": 3}, "depth"),
        ({"conv_clamp": "much"}, "conv_clamp"),
        ({"conv_clamp": [256]}, "conv_clamp"),
        ({"conv_clamp": 0}, "conv_clamp"),
        ({"conv_clamp": -256}, "conv_clamp"),
        ({"conv_clamp": float("nan")}, "conv_clamp"),
        ({"mapping_lr_mult": "small"}, "mapping_lr_mult"),
        ({"mapping_lr_mult": float("nan")}, "mapping_lr_mult"),
        ({"mapping_lr_mult": float("inf")}, "mapping_lr_mult"),
        ({"num_half_blocks": -1}, "num_half_blocks"),
        ({"num_half_blocks": 1.5}, "num_half_blocks"),
        ({"num_half_blocks": 10**12}, "num_half_blocks"),
        ({"discriminator": {"resolution": 32}}, "resolution"),
        ({"discriminator": {"channel_base": 64}}, "channel_base"),
        ({"discriminator": {"depth": 3}}, "depth"),
        ({"discriminator": {"mbstd_group_size": 0}}, "mbstd_group_size"),
        ({"discriminator": {"conv_clamp": "much"}}, "conv_clamp"),
        ({"discriminator": 5}, "discriminator"),
        ({"discriminator": None}, "discriminator"),
        ({"discriminator": "D"}, "discriminator"),
    ],
    ids=str,
)
def test_import_stylegan2_json_that_contradicts_names_the_field(
    said: dict[str, Any], mention: str, tmp_path: Path
) -> None:
    file = save_state(LAYOUTS["G_ema-and-D"], tmp_path / "state.pt")
    assert_refused(tmp_path, file, STYLEGAN2 | said, mention)


def test_import_stylegan2_what_no_shape_tells_is_taken_from_the_json(tmp_path: Path) -> None:
    told = {"conv_clamp": 0.5, "mapping_lr_mult": 0.02, "num_half_blocks": 2}
    judged = {"conv_clamp": 0.25, "mbstd_group_size": 2}
    file = save_state(LAYOUTS["G_ema-and-D"], tmp_path / "state.pt")
    info = import_state(tmp_path, file, STYLEGAN2 | told | {"discriminator": judged})
    arch = replace(ARCHITECTURE, **told)
    assert info.generator == arch
    assert info.discriminator is not None
    assert without_mapping(info.discriminator) == without_mapping(replace(DISCRIMINATOR, **judged))
    wanted = Generator(arch).eval()
    wanted.load_state_dict(G)
    z = torch.randn(3, arch.z_dim, generator=torch.Generator().manual_seed(1))
    image = wanted(z, "const").image
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z, "const").image, image, rtol=1e-4, atol=1e-5
    )
    plain = generator_state()[0](z, "const").image
    assert (plain - image).abs().max() > 0.1


def test_import_stylegan2_classes_skips_and_grey_are_told_by_the_shapes(tmp_path: Path) -> None:
    for skips in ("orig", "skip", "resnet"):
        folder = tmp_path / skips
        folder.mkdir()
        arch = replace(ARCHITECTURE, num_classes=3, image_channels=1, skips=skips)
        generator, state = generator_state(arch)
        info = import_state(folder, save_state(state, folder / "g.pt"), STYLEGAN2)
        assert info.generator == arch
        z, labels = torch.randn(3, arch.z_dim), torch.eye(3)
        torch.testing.assert_close(
            load_generator(folder / "teacher")(z, "const", labels=labels).image,
            generator(z, "const", labels=labels).image,
            rtol=1e-4,
            atol=1e-5,
        )


NOT_STYLEGAN2: dict[str, tuple[Callable[[State], State], str]] = {
    "linear-layers": (lambda _: nn.Sequential(nn.Linear(4, 3)).state_dict(), "StyleGAN2"),
    "dcgan": (lambda _: dict(CASES[1].module().state_dict()), "StyleGAN2"),
    "no-mapping": (
        lambda state: {name: value for name, value in state.items() if "mapping" not in name},
        "mapping.w_avg",
    ),
    "no-image-layer": (without("b16.torgb.weight"), "b16.torgb.weight"),
    "no-bias": (without("b8.conv0.bias"), "b8.conv0.bias"),
    "a-block-left-out": (
        lambda state: {name: value for name, value in state.items() if ".b8." not in name},
        "b8",
    ),
    "unknown-tensor": (with_tensor("synthesis.b8.extra.weight", torch.zeros(2)), "b8.extra"),
    "wrong-shape": (with_tensor("synthesis.b8.conv0.bias", torch.zeros(5)), "b8.conv0.bias"),
    "wrong-dimensions": (with_tensor("synthesis.b8.conv1.weight", torch.zeros(5)), "b8.conv1"),
    "scalar-average": (with_tensor("mapping.w_avg", torch.tensor(1.0)), "w_avg"),
    "nan": (with_tensor("synthesis.b8.conv0.bias", torch.full((12,), torch.nan)), "b8.conv0.bias"),
    "inf": (with_tensor("mapping.w_avg", torch.full((12,), torch.inf)), "w_avg"),
    "inf-in-float32": (
        with_tensor("mapping.w_avg", torch.full((12,), 1e300, dtype=torch.float64)),
        "w_avg",
    ),
    "absurd-resolution": (
        with_tensor("synthesis.b1099511627776.conv1.weight", torch.zeros(1, 1, 3, 3)),
        "",
    ),
    "odd-resolution": (with_tensor("synthesis.b17.conv1.weight", torch.zeros(1, 1, 3, 3)), ""),
    "empty-weight": (with_tensor("synthesis.b16.conv1.weight", torch.zeros(0, 0, 3, 3)), ""),
}


@pytest.mark.parametrize("name", NOT_STYLEGAN2)
def test_import_stylegan2_state_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    change, mention = NOT_STYLEGAN2[name]
    file = save_state(change(dict(G)), tmp_path / "state.pt")
    assert_refused(tmp_path, file, STYLEGAN2, mention)


def test_import_stylegan2_discriminator_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = save_state(G, tmp_path / "g.pt")
    judge = save_state(nn.Linear(3, 2).state_dict(), tmp_path / "d.pt")
    assert_refused(tmp_path, file, STYLEGAN2, discriminator=judge)
    bad = D | {"b8.conv0.bias": torch.full((12,), torch.nan)}
    judge = save_state(bad, tmp_path / "d.pt")
    assert_refused(tmp_path, file, STYLEGAN2, "b8.conv0.bias", discriminator=judge)


def test_import_stylegan2_discriminator_that_is_missing_is_named(tmp_path: Path) -> None:
    file = save_state(G, tmp_path / "g.pt")
    with pytest.raises(UserError, match=r"nowhere\.pt"):
        import_state(tmp_path, file, STYLEGAN2, discriminator=tmp_path / "nowhere.pt")
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_import_state_without_json_asks_for_it(suffix: str, tmp_path: Path) -> None:
    file = save_state(G, tmp_path / f"g{suffix}")
    with pytest.raises(UserError, match="--architecture") as raised:
        import_teacher(file, tmp_path / "teacher")
    assert str(file) in str(raised.value)
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '"stylegan2"', "{}", '{"family": "biggan"}', '{"family": ["dcgan"]}',
     '{"family": null}', "[" * 100_000, '{"family": "module"}'],
    ids=lambda content: content[:20] or "empty",
)  # fmt: skip
def test_import_state_json_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    file = save_state(G, tmp_path / "g.pt")
    with pytest.raises(UserError, match=r"architecture\.json") as raised:
        import_state(tmp_path, file, content)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "teacher").exists()


def test_import_state_json_that_is_missing_is_named(tmp_path: Path) -> None:
    file = save_state(G, tmp_path / "g.pt")
    with pytest.raises(UserError, match=r"nowhere\.json"):
        import_teacher(file, tmp_path / "teacher", architecture=tmp_path / "nowhere.json")
    assert not (tmp_path / "teacher").exists()


def test_import_state_file_that_is_missing_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path, tmp_path / "nowhere.pt", STYLEGAN2)


class Toucher:
    """Unpickling one creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["alone", "beside", "nested"])
def test_import_state_that_needs_code_is_refused_and_none_is_run(
    place: str, tmp_path: Path
) -> None:
    touched, file = tmp_path / "touched", tmp_path / "g.pt"
    poison = Toucher(touched)
    torch.save(
        {
            "alone": poison,
            "beside": G | {"x": poison},
            "nested": {"G_ema": G, "x": {"y": [poison]}},
        }[place],
        file,
    )
    assert_refused(tmp_path, file, STYLEGAN2)
    assert not touched.exists()


def test_import_state_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(CASES[1].module(), tmp_path / "netG.pt")
    assert_refused(tmp_path, tmp_path / "netG.pt", DCGAN, "state_dict()")


def test_import_state_old_torch_format_says_what_to_do(tmp_path: Path) -> None:
    """What `torch.save` wrote before 1.6: a pickle, yet no official checkpoint."""
    file = tmp_path / "old.pt"
    torch.save(G, file, _use_new_zipfile_serialization=False)
    assert_refused(tmp_path, file, STYLEGAN2, "torch.save")


def test_import_state_compressed_zip_is_refused(tmp_path: Path) -> None:
    file = save_state(G, tmp_path / "g.pt")
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
    file = save_state(LAYOUTS["G_ema-and-D"], tmp_path / f"g{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert_refused(tmp_path, file, STYLEGAN2)


@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 20])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_import_state_first_bytes_alone_are_refused(
    suffix: str, length: int, tmp_path: Path
) -> None:
    file = save_state(G, tmp_path / f"g{suffix}")
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
    torch.save(G | {"synthesis.b16.conv1.weight": wide}, file)
    assert_refused(tmp_path, file, STYLEGAN2)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_import_state_again_does_nothing(tmp_path: Path) -> None:
    file = save_state(G, tmp_path / "g.pt")
    judge = save_state(D, tmp_path / "d.pt")
    first = import_state(tmp_path, file, STYLEGAN2, discriminator=judge)
    before = snapshot(tmp_path / "teacher")
    assert import_state(tmp_path, file, STYLEGAN2, discriminator=judge) == first
    assert snapshot(tmp_path / "teacher") == before


@pytest.mark.parametrize("change", ["weights", "architecture", "discriminator"])
def test_import_state_of_something_else_into_the_same_folder_is_refused(
    change: str, tmp_path: Path
) -> None:
    file = save_state(G, tmp_path / "g.pt")
    said: State = dict(STYLEGAN2)
    judge = save_state(D, tmp_path / "d.pt")
    import_state(tmp_path, file, said, discriminator=judge)
    before = snapshot(tmp_path / "teacher")
    if change == "weights":
        save_state({name: tensor * 2 for name, tensor in G.items()}, file)
    elif change == "architecture":
        said["conv_clamp"] = 1.0
    else:
        save_state({name: tensor * 2 for name, tensor in D.items()}, judge)
    with pytest.raises(UserError, match="another teacher") as raised:
        import_state(tmp_path, file, said, discriminator=judge)
    assert str(tmp_path / "teacher") in str(raised.value)
    assert snapshot(tmp_path / "teacher") == before


def test_import_state_without_the_discriminator_it_had_is_not_the_same_teacher(
    tmp_path: Path,
) -> None:
    """Importing again does nothing only where it would make the same files."""
    file = save_state(G, tmp_path / "g.pt")
    judge = save_state(D, tmp_path / "d.pt")
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
