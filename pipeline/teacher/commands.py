"""The command line around teachers: `import-teacher` and `inspect-teacher`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from pipeline.teacher.description import TeacherInfo, read_teacher_info
from pipeline.terminal.progress import console
from shards.atomic import atomic_path
from shards.errors import UserError

if TYPE_CHECKING:
    from pipeline.teacher.interface import TeacherGenerator

SAMPLES_FILE = "samples.png"

NoiseOption = Literal["random", "const", "none"]


def import_command(
    file: Annotated[Path, typer.Argument(help="A checkpoint, or a folder with its files.")],
    out: Annotated[Path, typer.Option(help="Folder of the teacher, such as teachers/NAME.")],
    architecture: Annotated[
        Path | None,
        typer.Option(help="JSON with what a state dict does not say, such as its family."),
    ] = None,
    discriminator: Annotated[
        Path | None, typer.Option(help="File of the discriminator, if it is another one.")
    ] = None,
) -> None:
    """Import a GAN checkpoint as a teacher; nothing in the file is executed."""
    with console.status(f"reading {file}"):
        from pipeline.teacher.checkpoint import load_generator
        from pipeline.teacher.importing.checkpoint import import_teacher
        from pipeline.teacher.sample_grid import save_samples

        info = import_teacher(file, out, architecture=architecture, discriminator=discriminator)
        generator = load_generator(out)
        save_samples(generator, out / SAMPLES_FILE)
    print_teacher(out, info, generator)
    console.print(f"samples   {out / SAMPLES_FILE}", soft_wrap=True)
    console.print(f"use it    teacher.checkpoint={out}", soft_wrap=True)


def inspect_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a teacher.")],
    latents: Annotated[
        Path | None, typer.Option(help="File .npy with latents [N, z_dim] to compute on.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File .npy with class indices [N] or one-hot rows.")
    ] = None,
    noise: Annotated[NoiseOption, typer.Option(help="Noise inputs of the generator.")] = "const",
    truncation_psi: Annotated[float, typer.Option(help="Truncation; 1 is none.")] = 1.0,
    truncation_cutoff: Annotated[
        int | None, typer.Option(min=0, help="Truncate this many layers, from the first.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random noise.")] = 0,
    factory: Annotated[
        str | None,
        typer.Option(help="Your code that builds the teacher, as package.module:callable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File .npz for the arrays, or .png for the grid; by default samples.png."
        ),
    ] = None,
) -> None:
    """Show a teacher: a sample grid and its features; with --latents, everything it computes."""
    info = read_teacher_info(folder)
    if info.generator.family == "module" and factory is None:
        raise UserError(
            "--factory: this teacher is a module in your own code; name what builds it as "
            "package.module:callable"
        )
    if latents is None:
        from pipeline.teacher.checkpoint import load_generator
        from pipeline.teacher.sample_grid import save_samples

        given = {
            "--labels": labels is not None,
            "--truncation-cutoff": truncation_cutoff is not None,
            "--truncation-psi": truncation_psi != 1,
            "--noise": noise != "const",
            "--seed": seed != 0,
        }
        for name in (name for name, is_given in given.items() if is_given):
            raise UserError(f"{name}: only with --latents FILE.npy")
        target = out or folder / SAMPLES_FILE
        generator = load_generator(folder, factory)
        print_teacher(folder, info, generator)
        try:
            save_samples(generator, target)
        except OSError as error:
            if out is not None:
                raise
            raise UserError(
                f"{target}: {error.strerror}; name another file with --out FILE.png"
            ) from None
        console.print(f"samples   {target}", soft_wrap=True)
        return
    if out is None:
        raise UserError("--out: missing; name the .npz to write, --out FILE.npz")
    import numpy as np

    from pipeline.teacher.inspection import inspect_latents

    with console.status("computing"):
        arrays = inspect_latents(
            folder,
            _load(latents),
            labels=None if labels is None else _load(labels),
            noise=noise,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            seed=seed,
            factory=factory,
        )
        with atomic_path(out) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    for name, array in arrays.items():
        console.print(f"{name:<28} {list(array.shape)}")
    console.print(f"written   {out}", soft_wrap=True)


def print_teacher(folder: Path, info: TeacherInfo, generator: TeacherGenerator) -> None:
    """A summary: architecture, origin, and the table of block features."""
    arch = info.generator
    num_parameters = sum(parameter.numel() for parameter in generator.parameters())
    console.print(
        f"teacher   {folder}: {arch.title}, {arch.resolution} px, z {arch.z_dim}, "
        + (f"w {arch.w_dim}, " if arch.has_mapping else "no w, ")
        + (f"{arch.num_classes} classes" if arch.num_classes else "no classes")
        + f", {num_parameters:,} parameters",
        soft_wrap=True,
    )
    if info.origin.get("kind") == "import":
        _print_origin(info.origin)
    judge = info.discriminator
    console.print(
        "has       no discriminator"
        if judge is None
        else f"has       a discriminator, {judge.resolution} px"
    )
    table = Table("block feature", "channels", "side", "layers inside", box=None)
    for feature in (feature for feature in info.features if feature.is_block):
        inside = [
            other.name.removeprefix(f"{feature.name}.")
            for other in info.features
            if other.name.startswith(f"{feature.name}.")
        ]
        side, channels = str(feature.resolution), str(feature.num_channels)
        table.add_row(feature.name, channels, side, ", ".join(inside))
    console.print(table)


def _print_origin(origin: dict[str, Any]) -> None:
    digest = origin.get("sha256")
    console.print(
        f"from      {origin['file']} ({origin['layout']})"
        + (f", sha256 {digest[:12]}" if digest else ""),
        soft_wrap=True,
    )
    averaged: dict[Any, str] = {
        True: "averaged over the training",
        False: "not averaged over the training",
    }
    known = averaged.get(origin.get("is_averaged"), "the file does not say whether averaged")
    console.print(f"weights   {origin.get('weights') or 'of the whole file'}: {known}")
    for note in origin.get("notes", []):
        console.print(f"note      {note}", soft_wrap=True)


def _load(path: Path) -> Any:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        known = error.strerror if isinstance(error, OSError) else None
        reason = known or " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: cannot be read as .npy ({reason}); give a file of numpy.save"
        ) from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: holds several arrays; give a .npy with one")
    return array
