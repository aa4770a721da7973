"""How a student is loaded without this project: lines of Python for its card, and whether timm can
take it by itself.

Neighbours: `student/backbone.py` says what the networks are; `card.py` prints the lines.
"""

from __future__ import annotations

from pipeline.config.root import Config
from pipeline.config.student import StudentConfig

WEIGHTS_FILE = "model.safetensors"
_PLAIN_WIDTH = 64
_STAGES = {"resnet18": ("BasicBlock", [2, 2, 2, 2]), "resnet50": ("Bottleneck", [3, 4, 6, 3])}
_EXPANSION = {"BasicBlock": 1, "Bottleneck": 4}


def timm_name(student: StudentConfig) -> str | None:
    """Name in timm of a network with the same keys, None where it has none."""
    if student.is_resnet:
        return student.architecture
    library, _, name = student.architecture.rpartition(":")
    return name if library == "timm" else None


def is_plain(student: StudentConfig) -> bool:
    """Whether timm's `create_model` makes the very network, as a folder or repository of its own
    hub format.
    """
    is_changed = student.is_resnet and (student.stem, student.width) != ("imagenet", _PLAIN_WIDTH)
    return timm_name(student) is not None and not is_changed


def torchvision_lines(config: Config) -> str | None:
    """Code that loads `WEIGHTS_FILE` with torchvision and computes representations; None if
    torchvision has no such network.
    """
    student = config.train.student
    if student.is_resnet:
        imports, network = _torchvision_resnet(student)
    elif ":" not in student.architecture:
        imports = ["from torch import nn", "from torchvision.models import get_model"]
        arguments = _arguments(student)
        network = [f'backbone = get_model("{student.architecture}", weights=None{arguments})']
        network += [f"backbone{_last_linear(student)} = nn.Identity()"]
    else:
        return None
    return _program(config, imports, network)


def timm_lines(config: Config) -> str | None:
    """Likewise with timm."""
    student = config.train.student
    name = timm_name(student)
    if name is None:
        return None
    made = f'timm.create_model("{name}", num_classes=0{_arguments(student)})'
    imports, network = ["import timm"], [f"backbone = {made}"]
    if student.is_resnet and not is_plain(student):
        more, network = _timm_resnet(student)
        imports = [*more, *imports]
    return _program(config, imports, network)


def _program(config: Config, imports: list[str], network: list[str]) -> str:
    train, side = config.train, config.view_size
    lines = [
        "import torch",
        "from safetensors.torch import load_file",
        *sorted(imports, key=lambda line: line.split()[1]),
        "",
        *network,
        f'backbone.load_state_dict(load_file("{WEIGHTS_FILE}"))',
        "backbone.eval()",
        "",
        f"images = torch.rand(2, 3, {side}, {side})  # RGB in [0, 1]: put yours here",
        f"mean = torch.tensor({list(train.pixel_mean)})[:, None, None]",
        f"std = torch.tensor({list(train.pixel_std)})[:, None, None]",
        "with torch.no_grad():",
        "    representations = backbone((images - mean) / std)",
    ]
    return "\n".join(lines) + "\n"


def _stem_lines(student: StudentConfig) -> list[str]:
    """Of a network that has torchvision's stem; none where that is the student's own."""
    width = student.width
    if student.stem == "cifar":
        return [
            f"backbone.conv1 = nn.Conv2d(3, {width}, 3, padding=1, bias=False)  # the CIFAR stem",
            "backbone.maxpool = nn.Identity()",
        ]
    if width == _PLAIN_WIDTH:
        return []
    return [f"backbone.conv1 = nn.Conv2d(3, {width}, 7, stride=2, padding=3, bias=False)"]


def _torchvision_resnet(student: StudentConfig) -> tuple[list[str], list[str]]:
    """Import lines, and those that make the network."""
    name, width = student.architecture, student.width
    imports = ["from torch import nn", f"from torchvision.models import {name}"]
    network = [f"backbone = {name}()", *_stem_lines(student)]
    if width != _PLAIN_WIDTH:
        block, counts = _STAGES[name]
        imports.append(f"from torchvision.models.resnet import {block}")
        network += [
            f"backbone.bn1 = nn.BatchNorm2d({width})",
            f"backbone.inplanes = {width}  # {width} channels where torchvision has 64",
            f"for index, (count, stride) in enumerate(zip({counts}, [1, 2, 2, 2])):",
            f"    stage = backbone._make_layer({block}, {width} * 2**index, count, stride)",
            '    setattr(backbone, f"layer{index + 1}", stage)',
        ]
    return imports, [*network, "backbone.fc = nn.Identity()"]


def _timm_resnet(student: StudentConfig) -> tuple[list[str], list[str]]:
    name, width = student.architecture, student.width
    imports = ["from torch import nn"]
    if width == _PLAIN_WIDTH:
        network = [f'backbone = timm.create_model("{name}", num_classes=0)']
        return imports, [*network, *_stem_lines(student)]
    block, _ = _STAGES[name]
    wide = _EXPANSION[block] * width
    channels = tuple(width * 2**index for index in range(4))
    arguments, names = f"{width}, {width}", block
    if wide != width:
        arguments += f", downsample=downsample_conv({width}, {wide}, 1)"
        names += ", downsample_conv"
    imports.append(f"from timm.models.resnet import {names}")
    return imports, [
        f'backbone = timm.create_model("{name}", num_classes=0, channels={channels})',
        *_stem_lines(student),
        f"backbone.bn1 = nn.BatchNorm2d({width})",
        f"backbone.layer1[0] = {block}({arguments})  # {width} channels where timm has 64",
    ]


def _arguments(student: StudentConfig) -> str:
    return "".join(f", {name}={value!r}" for name, value in student.options.items())


def _last_linear(student: StudentConfig) -> str:
    """Where a classifier of torchvision's has its last linear layer, as `.classifier[3]`."""
    from torch import nn
    from torchvision import models

    network = models.get_model(student.architecture, weights=None, **student.options)
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    parts = linear[-1].split(".")
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)
