"""`python -m pipeline real CONFIG`: real images -> shards of both splits, once per content.

A source is listed once, its images are packed by tasks on Ray or in this process, beside other runs
that do the same. Images that cannot be read are found on the way; where they are skipped, the
shards without them are copied from those that have gaps. Neighbours: `request.py` says what is
wanted, `rows.py` which images that is, `fill.py` packs them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict

from pipeline.config.root import Config
from pipeline.real.fill import fill, list_on_workers
from pipeline.real.listing import Listing, take_listing
from pipeline.real.pack import Packing, Recipe, read_unreadable
from pipeline.real.request import (
    REAL_SHARDS,
    SPLITS,
    Request,
    describe_left_out,
    find_request,
    folder_of,
    make_request,
    select,
    split_read,
    without_unreadable,
)
from pipeline.real.rows import count_rows, read_numbers, rows_of, without, write_rows
from pipeline.real.sources.earlier import EarlierShards
from pipeline.real.sources.location import in_words
from pipeline.real.sources.recognise import find_unread_splits
from pipeline.real.sources.source import Source
from pipeline.real.unreadable import forget_unreadable, is_mended, leave_list, refusal
from pipeline.records.products import RECIPE_FILE, RealImages, RealShards, real_shards
from pipeline.records.record import Record, read_record, write_record
from pipeline.records.spec import Spec, recorded_fields
from pipeline.terminal.progress import console, progress_bar
from shards.claims import Claims, remove_leftovers
from shards.errors import UserError
from shards.manifest import Manifest, write_manifest
from shards.schema import real_schema
from shards.storage import Folder


def find(config: Config) -> Record[RealImages] | None:
    """Record of these shards if they are packed and whole."""
    record = read_record(config.run_dir / "real", RealImages)
    if record is None:
        return None
    spec = _find_spec(config, record)
    if spec is None or record.fingerprint != spec.fingerprint:
        return None
    if Folder.at(record.outputs.folder) != folder_of(spec, config.store):
        return None
    for split in SPLITS:
        try:
            reader = real_shards(config, split, record.outputs).open()
        except UserError:
            return None
        if reader.digest != record.outputs.digests[split]:
            return None
    return record


def run(config: Config) -> None:
    """Pack the splits that are not there yet into shards.

    Raises:
        UserError: if there are images that cannot be read, unless they are to be skipped.
    """
    with in_words("real.path" if config.real.train is None else "real.train"):
        request = make_request(config, lambda source, split: _list(config, source, split))
        if config.real.unreadable == "stop" and is_mended(request.folder(config.store)):
            forget_unreadable(request.folder(config.store))
            for split, source in request.sources.items():
                _list(config, source, split)
            request = make_request(config)
    spec, folder = request.spec, request.folder(config.store)
    selections, names = select(config.real, request, config.store)
    recipe = Recipe(
        real_schema(config.real.resolution, config.real.image_codec, config.real.image_quality),
        config.real.resolution,
        config.real.background,
        config.real.samples_per_shard,
    )
    if "test" not in request.sources and config.real.test_from == "test":
        for place in find_unread_splits(config.real):
            console.print(
                config.real.reword(f"note      {place} is not read; real.test={place} tests on it"),
                soft_wrap=True,
            )
    with ExitStack() as at_work:  # until the record refers to the shards
        claims = at_work.enter_context(Claims(folder))
        _write_recipe(folder, spec)
        _say_what_lacks_labels(request)
        packings = []
        for split in SPLITS:
            if count_rows(folder, split) is None:
                rows = rows_of(selections[split], config.store) if split in selections else ()
                write_rows(folder, split, rows, recipe.samples_per_shard)
            read = request.sources.get(split_read(config.real, split), request.sources["train"])
            packings.append(Packing(folder, split, read, recipe))
        unreadable = fill(claims, packings, config.ray)
        if unreadable:
            skipped = leave_list(config.run_dir, folder, request, unreadable)
            num_lost = sum(one.split == "train" for one in unreadable)
            if config.real.unreadable == "stop" or num_lost == count_rows(folder, "train"):
                raise refusal(config, folder, request, unreadable)
            spec = without_unreadable(spec, skipped)
            whole, folder = folder, folder_of(spec, config.store)
            claims = at_work.enter_context(Claims(folder))
            _write_recipe(folder, spec)
            copies = _write_rows_without(whole, folder, packings)
            _check_classes(folder, names)
            fill(claims, copies, config.ray)
        num_available = selections["train"].num_available
        _leave_record(config, spec, folder, recipe, names, num_available, len(unreadable))
    remove_leftovers(folder, SPLITS)


def describe(config: Config, record: Record[RealImages]) -> str:
    """One line for the terminal."""
    images = record.outputs
    counts = " + ".join(f"{count:,} {split}" for split, count in images.num_samples.items())
    drawn = "" if images.num_available is None else f", drawn from {images.num_available:,} train"
    skipped = f", {images.num_skipped:,} unreadable skipped" if images.num_skipped else ""
    return f"{images.folder}, {counts} images of {config.real.resolution} px{drawn}{skipped}"


def _find_spec(config: Config, record: Record[RealImages]) -> Spec | None:
    """What the config asks for now; None if that is not known without listing a source. The digits,
    and shards that were packed before sources were listed, are taken as they are.
    """
    if "decoding" not in record.inputs and record.config == recorded_fields(config.real):
        return record.spec
    request = find_request(config)
    if request is None:
        return None
    skipped = record.inputs.get("skipped")
    if config.real.unreadable == "skip" and skipped is not None:
        return without_unreadable(request.spec, skipped)
    return request.spec


def _list(config: Config, source: Source, split: str) -> Listing:
    """List a source, with progress, and say in one line what it has."""
    with progress_bar("files") as bar:
        task = bar.add_task(f"list {split}", total=None, note="")
        parts = list_on_workers(source, config.ray)
        listing = take_listing(
            source, config.store, parts, lambda count: bar.update(task, completed=count)
        )
        bar.update(task, total=listing.num_entries, completed=listing.num_entries)
    classes = f" in {len(listing.labels):,} classes" if listing.labels else ", no labels"
    is_mixed = listing.labels and listing.num_unlabelled
    unlabelled = f", {listing.num_unlabelled:,} unlabelled" if is_mixed else ""
    left_out = f"; left out: {describe_left_out(listing)}" if listing.left_out else ""
    line = f"{listing.num_entries:,} images{classes}{unlabelled}{left_out}"
    console.print(f"real {split:<5} {line}", soft_wrap=True)
    for note in listing.notes:
        console.print(f"note      {split}: {config.real.reword(note)}", soft_wrap=True)
    return listing


def _say_what_lacks_labels(request: Request) -> None:
    """Before anything is trained, rather than when it is evaluated."""
    labelled = {
        split: bool(listing.labels)
        for split, listing in request.listings.items()
        if listing.num_entries
    }
    if len(labelled) == 2 and len(set(labelled.values())) == 2:
        with_labels, without = sorted(labelled, key=lambda split: not labelled[split])
        console.print(
            f"note      {with_labels} images have labels, {without} images have none: a student "
            "can be trained, and measured on labels that eval.sets names",
            soft_wrap=True,
        )


def _check_classes(folder: Folder, names: Sequence[str]) -> None:
    """Refuse test images of a class of which no train image could be read."""
    train, test = (set(read_numbers(folder, split)) - {-1} for split in SPLITS)
    lost = sorted(test - train)
    if train and lost:
        raise UserError(
            f"real.unreadable: no train image of class {names[lost[0]]!r} can be read, and there "
            "are test images of it; fix its images, or leave it out with real.classes"
        )


def _write_recipe(folder: Folder, spec: Spec) -> None:
    folder.write(RECIPE_FILE, (json.dumps(asdict(spec), indent=2) + "\n").encode())


def _leave_record(
    config: Config,
    spec: Spec,
    folder: Folder,
    recipe: Recipe,
    names: Sequence[str],
    num_available: int | None,
    num_skipped: int,
) -> None:
    sizes, digests = {}, {}
    for split in SPLITS:
        num_rows = count_rows(folder, split)
        if not num_rows:
            write_manifest(folder / split, Manifest(recipe.schema, ()))
        reader = RealShards(folder / split, config.cache).open()
        sizes[split], digests[split] = reader.num_samples, reader.digest
        if reader.num_samples != num_rows:
            raise UserError(
                f"{folder / split}: has {reader.num_samples:,} images of {num_rows:,}; delete it, "
                "and run it again"
            )
    product = RealImages(
        folder=f"{config.paths.store}/{REAL_SHARDS}/{folder.name}",
        num_samples=sizes,
        class_names=tuple(names),
        digests=digests,
        num_available=num_available,
        num_skipped=num_skipped,
    )
    write_record(config.run_dir / "real", spec, product)


def _write_rows_without(
    whole: Folder, folder: Folder, packings: Sequence[Packing]
) -> list[Packing]:
    """Rows of `folder`: those of `whole` that could be read, to be copied from the shards there."""
    copies = []
    for packing in packings:
        split, recipe = packing.split, packing.recipe
        if count_rows(folder, split) is None:
            size = recipe.samples_per_shard
            lost = {
                index: [one.row - index * size for one in notes]
                for index, notes in read_unreadable(whole, split).items()
            }
            write_rows(folder, split, without(whole, split, lost), size)
        earlier = EarlierShards(whole / split, recipe.schema.column("image"))
        copies.append(Packing(folder, split, earlier, recipe))
    return copies
