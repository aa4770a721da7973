"""The layouts of checkpoints that are known, each recognised from the content: one entry each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.teacher.importing import (
    biggan,
    biggan_deep,
    dcgan,
    fastgan,
    lucidrains,
    projected_gan,
    r3gan,
    rosinality,
    stylegan2_ada,
    stylegan2_states,
    stylegan2_tensorflow,
    stylegan3,
)
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.stand_ins import StoredModule, TensorFlowNetwork
from pipeline.teacher.importing.stored_tensors import Stored
from shards.errors import UserError

MAX_SHOWN = 5


class Layout(NamedTuple):
    """One way in which a GAN is stored."""

    name: str
    recognises: Callable[[Source], bool]
    """By what the source holds, loading no tensor."""
    convert: Callable[[Source], Imported]
    """Raises ValueError or UserError for a network that is not supported."""
    takes_architecture: bool = False
    """Whether a JSON may say what no tensor tells."""
    takes_discriminator: bool = False
    """Whether the discriminator may be a file of its own."""


LAYOUTS = (
    Layout("StyleGAN2-ADA PyTorch pickle", stylegan2_ada.recognises, stylegan2_ada.convert),
    Layout(
        "StyleGAN2 TensorFlow pickle",
        stylegan2_tensorflow.recognises,
        stylegan2_tensorflow.convert,
    ),
    Layout("rosinality StyleGAN2", rosinality.recognises, rosinality.convert),
    Layout("StyleGAN3 or StyleGAN-XL stem", stylegan3.recognises, stylegan3.convert),
    Layout("R3GAN", r3gan.recognises, r3gan.convert),
    Layout(fastgan.LAYOUT, fastgan.recognises, fastgan.convert),
    Layout(projected_gan.LAYOUT, projected_gan.recognises, projected_gan.convert),
    Layout(lucidrains.LAYOUT, lucidrains.recognises, lucidrains.convert),
    Layout(
        "StyleGAN2 state dict",
        stylegan2_states.recognises,
        stylegan2_states.convert,
        takes_architecture=True,
        takes_discriminator=True,
    ),
    Layout(biggan.LAYOUT, biggan.recognises, biggan.convert, takes_discriminator=True),
    Layout(biggan_deep.LAYOUT, biggan_deep.recognises, biggan_deep.convert),
    Layout(
        "DCGAN",
        dcgan.recognises,
        dcgan.convert,
        takes_architecture=True,
        takes_discriminator=True,
    ),
)


def convert(source: Source) -> Imported:
    """What the first layout that recognises `source` makes of it.

    Raises:
        UserError: if none does, saying what the source holds; or if an option is of no use to it.
        ValueError: if its network is not supported.
    """
    for layout in LAYOUTS:
        if not layout.recognises(source):
            continue
        if source.architecture is not None and not layout.takes_architecture:
            raise UserError(
                f"{source.path}: {layout.name}: the file says it all; leave out --architecture"
            )
        if source.discriminator is not None and not layout.takes_discriminator:
            raise UserError(
                f"{source.path}: {layout.name}: takes no discriminator from another file; leave "
                "out --discriminator"
            )
        return layout.convert(source)
    known = ", ".join(layout.name for layout in LAYOUTS)
    remedy = "Name one of its files. " if source.is_folder else ""
    raise UserError(
        f"{source.path}: not a GAN checkpoint of a known layout; found {_describe(source)}. "
        f"{remedy}Known are: {known}"
    )


def _describe(source: Source) -> str:
    """Keys and classes of the content, in printable ASCII."""
    if source.is_folder:
        return f"a folder with {_list(source.names) if source.names else 'no file of networks'}"
    return _describe_content(source.content)


def _describe_content(content: Any) -> str:
    if isinstance(content, StoredModule):
        return f"an object of class {_list([content.class_path])}"
    if isinstance(content, dict):
        parts = [f"{_list([key])} ({_kind(value)})" for key, value in list(content.items())[:5]]
        more = f" and {len(content) - MAX_SHOWN} more" if len(content) > MAX_SHOWN else ""
        return f"a dictionary with {', '.join(parts)}{more}" if parts else "an empty dictionary"
    if isinstance(content, (list, tuple)):
        kinds = [_kind(value) for value in content]
        return f"a {type(content).__name__} of {_list(kinds)}"
    return _kind(content)


def _kind(value: Any) -> str:
    if isinstance(value, Stored):
        return f"tensor {list(value.shape)}"
    if isinstance(value, StoredModule):
        return _list([value.class_path])
    if isinstance(value, TensorFlowNetwork):
        return "TensorFlow network"
    if isinstance(value, type):
        return "class"
    return "dict" if isinstance(value, dict) else type(value).__name__


def _list(names: Any) -> str:
    shown = [ascii(str(name))[1:-1][:60] for name in list(names)[:MAX_SHOWN]]
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(shown) + more
