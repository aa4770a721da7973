"""The same networks in the TensorFlow layout: other names, other axes, nested components."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.official_files.pickling import POISON, EasyDict, Network, write_pickle
from tests.support.official_files.pytorch import build_discriminator, build_generator
from tests.support.official_files.specification import OfficialSpec, State, stated


def write_tensorflow_pickle(
    path: Path, *, spec: OfficialSpec, seed: int, protocol: int = 3, is_numpy_2: bool = False
) -> tuple[State, State | None]:
    """Writes a tuple (G, D, Gs); returns the state dicts of `Gs` and `D` by their PyTorch names."""
    averaged = build_generator(spec, np.random.default_rng([seed, 0])).state_dict()
    last = build_generator(spec, np.random.default_rng([seed, 2])).state_dict()
    discriminator = build_discriminator(spec, np.random.default_rng([seed, 1])).state_dict()
    networks = (
        _tensorflow_generator("G", spec, last),
        _tensorflow_discriminator(spec, discriminator),
        _tensorflow_generator("Gs", spec, averaged),
    )
    write_pickle(path, networks, protocol, is_numpy_2)
    return averaged, discriminator


def _network(name: str, build: str, variables: dict[str, np.ndarray], **more: Any) -> Network:
    return Network(
        version=5,
        name=name,
        static_kwargs=more.get("static_kwargs", EasyDict()),
        components=more.get("components", {}),
        build_module_src=POISON,
        build_func_name=build,
        variables=list(variables.items()),
    )


def _tensorflow_generator(name: str, spec: OfficialSpec, state: State) -> Network:
    variables = tensorflow_variables(state, spec) | _unused_lods(spec, is_generator=True)
    parts: dict[str, dict[str, np.ndarray]] = {"mapping": {}, "synthesis": {}, "": {}}
    for path, value in variables.items():
        part = path.partition("/")[0] if "/" in path else ""
        parts[part][path.removeprefix(f"{part}/")] = value
    static_kwargs = {
        "latent_size": spec.z_dim,
        "dlatent_size": spec.w_dim,
        "resolution": spec.resolution,
        "fmap_base": spec.channel_base // 2,
        "fmap_max": spec.channel_max,
        "truncation_psi": 0.5,
        **stated(
            spec,
            label_size=(spec.num_classes, 0),
            num_channels=(spec.img_channels, 3),
            mapping_layers=(spec.mapping_layers, 8),
            mapping_lrmul=(spec.mapping_lr_mult, 0.01),
            num_fp16_res=(spec.num_fp16_res, 0),
            conv_clamp=(spec.generator_clamp, None),
        ),
        **({} if spec.has_lod_names else stated(spec, architecture=(spec.generator_skips, "skip"))),
    }
    return _network(
        name,
        "G_main",
        parts[""],
        static_kwargs=EasyDict(static_kwargs),
        components={
            key: _network(f"G_{key}", f"G_{key}", parts[key]) for key in ("mapping", "synthesis")
        },
    )


def _tensorflow_discriminator(spec: OfficialSpec, state: State) -> Network:
    static_kwargs = {
        "resolution": spec.resolution,
        "fmap_base": (spec.discriminator_channel_base or spec.channel_base) // 2,
        "fmap_max": spec.discriminator_channel_max or spec.channel_max,
        **stated(
            spec,
            label_size=(spec.num_classes, 0),
            num_channels=(spec.img_channels, 3),
            num_fp16_res=(spec.num_fp16_res, 0),
            conv_clamp=(spec.discriminator_clamp, None),
            mbstd_group_size=(spec.mbstd_group_size, None),
        ),
        **(
            {}
            if spec.has_lod_names
            else stated(spec, architecture=(spec.discriminator_skips, "resnet"))
        ),
    }
    if spec.num_classes:
        static_kwargs |= stated(
            spec,
            mapping_layers=(spec.discriminator_mapping_layers, 0),
            mapping_lrmul=(spec.discriminator_mapping_lr_mult, 0.1),
            mapping_fmaps=(spec.label_width, None),
        )
    variables = tensorflow_variables(state, spec) | _unused_lods(spec, is_generator=False)
    return _network("D", "D_main", variables, static_kwargs=EasyDict(static_kwargs))


def _unused_lods(spec: OfficialSpec, *, is_generator: bool) -> dict[str, np.ndarray]:
    """What progressive growing leaves behind: image layers of the lower resolutions."""
    found: dict[str, np.ndarray] = {}
    for lod, resolution in enumerate(spec.block_resolutions[-2::-1], start=1):
        if not spec.has_lod_names:
            break
        if is_generator:
            width, layer = spec.num_generator_channels(resolution), f"synthesis/ToRGB_lod{lod}"
            found[f"{layer}/weight"] = np.ones((1, 1, width, spec.img_channels), np.float32)
            found[f"{layer}/bias"] = np.ones(spec.img_channels, np.float32)
            found[f"{layer}/mod_weight"] = np.ones((spec.w_dim, width), np.float32)
            found[f"{layer}/mod_bias"] = np.ones(width, np.float32)
        else:
            width, layer = spec.num_discriminator_channels(resolution), f"FromRGB_lod{lod}"
            found[f"{layer}/weight"] = np.ones((1, 1, spec.img_channels, width), np.float32)
            found[f"{layer}/bias"] = np.ones(width, np.float32)
    return found


TENSORFLOW_NAMES = (
    (r"mapping\.w_avg", "dlatent_avg"),
    (r"mapping\.embed", "mapping/LabelEmbed"),
    (r"mapping\.fc(\d+)", r"mapping/Dense\1"),
    (r"synthesis\.b4\.const", "synthesis/4x4/Const/const"),
    (r"synthesis\.b4\.conv1", "synthesis/4x4/Conv"),
    (r"synthesis\.b(\d+)\.conv0", r"synthesis/\1x\1/Conv0_up"),
    (r"synthesis\.b(\d+)\.conv1", r"synthesis/\1x\1/Conv1"),
    (r"synthesis\.b(\d+)\.torgb", r"synthesis/\1x\1/ToRGB"),
    (r"synthesis\.b(\d+)\.skip", r"synthesis/\1x\1/Skip"),
    (r"b(\d+)\.fromrgb", r"\1x\1/FromRGB"),
    (r"b(\d+)\.conv0", r"\1x\1/Conv0"),
    (r"b(\d+)\.conv1", r"\1x\1/Conv1_down"),
    (r"b(\d+)\.skip", r"\1x\1/Skip"),
    (r"b4\.conv", "4x4/Conv"),
    (r"b4\.fc", "4x4/Dense0"),
    (r"b4\.out", "Output"),
)
"""Start of a PyTorch name, and of the TensorFlow name."""


def tensorflow_variables(state: State, spec: OfficialSpec) -> dict[str, np.ndarray]:
    """A generator's or discriminator's state as TensorFlow kept it."""
    is_generator = "synthesis.b4.const" in state
    found = {}
    for name, tensor in state.items():
        if not name.endswith("resample_filter"):
            value = _tensorflow_layout(name, tensor.numpy())
            found[_tensorflow_name(name, spec, is_generator)] = np.asarray(value, order="C")
    return found


def read_tensorflow_state(path: Path, index: int, spec: OfficialSpec) -> State:
    """The state dict of network `index` of a TensorFlow file, resample filters left out."""
    with path.open("rb") as file:
        network = _TensorflowUnpickler(file).load()[index]
    variables = dict(network.variables)
    for part, component in network.components.items():
        variables |= {f"{part}/{name}": value for name, value in component.variables}
    build = build_generator if network.components else build_discriminator
    found = {}
    for name, tensor in build(spec, np.random.default_rng(0)).state_dict().items():
        if name.endswith("resample_filter"):
            continue
        value = variables.pop(_tensorflow_name(name, spec, bool(network.components)))
        if name.endswith("affine.bias"):
            found[name] = torch.from_numpy(value + 1)
            continue
        places = np.arange(tensor.numel()).reshape(tensor.shape)  # where each element was put
        where = np.argsort(_tensorflow_layout(name, places), axis=None)
        found[name] = torch.from_numpy(value.reshape(-1)[where].reshape(tensor.shape))
    assert not variables, sorted(variables)
    return found


class _TensorflowUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("dnnlib.util", "EasyDict"): EasyDict,
            ("dnnlib.tflib.network", "Network"): Network,
        }
        if module.partition(".")[0] == "dnnlib":
            return known[module, name]
        assert module.partition(".")[0] == "numpy", module
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _tensorflow_name(name: str, spec: OfficialSpec, is_generator: bool) -> str:
    if name.endswith("noise_const"):
        resolution, conv = re.fullmatch(r"synthesis\.b(\d+)\.conv(.)\.\w+", name).groups()  # type: ignore[union-attr]
        return f"synthesis/noise{2 * int(math.log2(int(resolution))) - 5 + int(conv)}"
    for start, replacement in TENSORFLOW_NAMES:
        if matched := re.match(rf"{start}(?=\.|$)", name):
            rest = name[matched.end() :].replace(".affine.", ".mod_").replace(".", "/")
            path = matched.expand(replacement) + rest
            break
    else:
        raise AssertionError(name)
    if not is_generator and path.startswith("mapping/"):
        path = path.removeprefix("mapping/").replace("Dense", "Mapping")
    if spec.has_lod_names and (rgb := re.search(r"(\d+)x\d+/(ToRGB|FromRGB)", path)):
        lod = int(math.log2(spec.resolution // int(rgb[1])))
        path = path.replace(rgb[0], f"{rgb[2]}_lod{lod}")
    return path


def _tensorflow_layout(name: str, value: np.ndarray) -> np.ndarray:
    if name.endswith("noise_const"):
        return value[None, None]
    if name.endswith(".const"):
        return value[None]
    if name.endswith("affine.bias"):
        return value - 1
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
        is_flipped = name.startswith("synthesis.") and re.search(r"conv0\.|skip\.", name)
        return value[::-1, ::-1] if is_flipped and ".b4." not in name else value
    return value.T if value.ndim == 2 else value
