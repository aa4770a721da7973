"""What a config asks for: its sources, what they list, and the key that this has in the store.

Neighbours: `stage.py` brings it about; `store` compares it with what is there. Nothing here decodes
an image or starts Ray.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.config.real import RealConfig
from pipeline.config.root import Config
from pipeline.real.decode import DECODING
from pipeline.real.labels import number_classes
from pipeline.real.listing import Listing, find_listing, list_here, take_listing
from pipeline.real.rows import Selection, draw, read_labels
from pipeline.real.sources.recognise import SPLIT_NAMES, find_source
from pipeline.real.sources.source import Source
from pipeline.real.sources.torchvision_sets import imagenet_words
from pipeline.records.spec import Spec
from shards.errors import UserError
from shards.schema import SCHEMA_VERSION
from shards.storage import Folder

SPLITS = ("train", "test")
REAL_SHARDS = "real"


@dataclass(frozen=True)
class Request:
    """Sources and listings by the split of the source that they are."""

    sources: dict[str, Source]
    listings: dict[str, Listing]
    spec: Spec
    """With images that cannot be read in their places."""

    def folder(self, store: Folder) -> Folder:
        """Where its shards are."""
        return folder_of(self.spec, store)


ListSource = Callable[[Source, str], Listing]
"""A listing of a source, of which the split is named."""


def find_sources(config: RealConfig) -> dict[str, Source]:
    """Sources by the split of theirs that is read; without a test split that is not there.

    Raises:
        UserError: as `find_source`.
    """
    found = {}
    for split in dict.fromkeys(split_read(config, split) for split in SPLITS):
        source = find_source(config, split)
        if source is not None:
            found[split] = source
    return found


def find_request(config: Config) -> Request | None:
    """The request, None if a source has not been listed as it is now; reads no folder of images.

    Raises:
        UserError: as `find_sources`.
    """
    sources = find_sources(config.real)
    listings = {}
    for split, source in sources.items():
        listing = find_listing(source, config.store)
        if listing is None:
            return None
        listings[split] = listing
    return Request(sources, listings, _spec(config.real, listings))


def make_request(config: Config, list_source: ListSource | None = None) -> Request:
    """The same, after listing what has to be.

    Raises:
        UserError: as `find_sources`, and for a train split without images.
    """
    sources = find_sources(config.real)
    listings = {}
    for split, source in sources.items():
        listing = find_listing(source, config.store)
        if listing is None and list_source is not None:
            listing = list_source(source, split)
        elif listing is None:
            listing = take_listing(source, config.store, list_here(source))
        listings[split] = listing
    for split, listing in listings.items():
        _refuse_splits(config.real, split, listing)
    train = listings["train"]
    if not train.num_entries:
        field = "real.path" if config.real.train is None else "real.train"
        remedy = "put them there, in one sub-folder per class or without any"
        if sources["train"].files and config.real.train is None:
            remedy = f"name what it holds as real.train={config.real.path}"
        elif sources["train"].files:
            remedy = "name other files"
        raise UserError(
            f"{field}: no images in {config.real.location} (train); {remedy}{_beside(train)}"
        )
    return Request(sources, listings, _spec(config.real, listings))


def spec_of(config: Config) -> Spec:
    """What determines the bytes of the real shards; lists the sources if need be."""
    return make_request(config).spec


def without_unreadable(spec: Spec, skipped: str) -> Spec:
    """`spec` less images that cannot be read; `skipped` is the digest of their list."""
    return Spec(spec.stage, spec.config, {**spec.inputs, "skipped": skipped})


def folder_of(spec: Spec, store: Folder) -> Folder:
    """Where shards of `spec` are."""
    return store / REAL_SHARDS / spec.fingerprint[:16]


def split_read(config: RealConfig, split: str) -> str:
    """Which split of the source has the images of `split`."""
    return config.test_from if split == "test" else split


def select(
    config: RealConfig, request: Request, store: Folder
) -> tuple[dict[str, Selection], tuple[str, ...]]:
    """Images of each split, and the names of all classes.

    Raises:
        UserError: for classes or a limit that there are too few images of.
    """
    wanted = read_class_list(config.classes)
    classes = number_classes(request.listings, wanted)
    names = classes.names
    if config.source == "imagenet":
        names = tuple(imagenet_words(Path(str(config.path)), names))
    whole = {
        split: Selection(listing, classes.numbers[split], wanted is None)
        for split, listing in request.listings.items()
    }
    selections = {split: whole[split] for split in SPLITS if split in whole}
    if config.limit is not None:
        labels = read_labels(whole["train"], store)
        drawn = draw(config, whole["train"], labels)
        selections["train"] = replace(whole["train"], chosen=drawn, num_available=len(labels))
        if config.test_from == "train":
            rest = np.setdiff1d(np.arange(len(labels)), drawn)
            if not len(rest):
                raise UserError(
                    f"real.limit: {config.limit} leaves out none of {len(labels):,} train images, "
                    "and real.test_from=train tests on those; take fewer"
                )
            selections["test"] = replace(whole["train"], chosen=rest)
    return selections, names


def read_class_list(path: Path | None) -> frozenset[str] | None:
    """Lines of the list, without empty ones and those that begin with #."""
    if path is None:
        return None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(
            f"real.classes: {path} cannot be read ({reason}); name a text file with one class on "
            "each line, by the name of its folder"
        ) from None
    names = frozenset(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise UserError(
            f"real.classes: {path} names no class; write one on each line, or leave it unset"
        )
    return names


def _spec(config: RealConfig, listings: dict[str, Listing]) -> Spec:
    inputs = {"schema": str(SCHEMA_VERSION)}
    if config.source != "digits":
        inputs["decoding"] = DECODING
        inputs |= {split: listing.digest for split, listing in listings.items()}
    wanted = read_class_list(config.classes)
    if wanted is not None:
        inputs["classes"] = hashlib.sha256(json.dumps(sorted(wanted)).encode()).hexdigest()
    return Spec.of("real", config, inputs)


def _refuse_splits(config: RealConfig, split: str, listing: Listing) -> None:
    """Folders called train and test are no classes."""
    names = sorted(name for name in listing.labels if name.lower() in SPLIT_NAMES)
    if len(names) > 1 and len(names) == len(listing.labels):
        place = config.train if split == "train" else config.test
        raise UserError(
            f"real.{split}: {place or config.path} holds splits and not classes "
            f"({', '.join(names)}); a folder or zip of them is real.path"
        )


def _beside(listing: Listing) -> str:
    left_out = describe_left_out(listing)
    return f" (there: {left_out})" if left_out else ""


def describe_left_out(listing: Listing) -> str:
    """What a source has that is not taken, as `.txt (3), hidden (1)`."""
    kinds = sorted(listing.left_out.items(), key=lambda kind: -kind[1])
    return ", ".join(f"{kind} ({count:,})" for kind, count in kinds)
