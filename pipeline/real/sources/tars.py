"""WebDataset tars, as img2dataset and others write them: samples are neighbouring members of one
key, an image among them; the label is in `cls`, or in a field of `json`.

A listing walks over headers once and notes where images lie, so that any of them can be read alone.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from pipeline.real.decode import UnreadableError, is_image_name
from pipeline.real.sources.folder import is_hidden
from pipeline.real.sources.location import OneOpen, open_file
from pipeline.real.sources.source import Content, Entry, File, Findings, Reader, Row, label_text
from shards.errors import UserError

_LABEL = "cls"


@dataclass
class _Sample:
    """Members of one key so far."""

    key: str
    images: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    has_link: bool = False
    label: str | None = None


@dataclass(frozen=True)
class TarSource:
    """Samples of tars, in their order there."""

    files: tuple[File, ...]
    label_field: str | None = None
    names: tuple[str, ...] | None = None

    def identity(self) -> dict[str, object]:
        """The files, with sizes and times, and where labels are."""
        return {"kind": "tar", "files": self.files, "label_field": self.label_field}

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """Samples of one tar; one that has no image, and the end of a tar that was cut off, are
        entries with a problem.

        Raises:
            UserError: if it is no tar, or a sample lacks `label_field`.
        """
        findings.has_numbers = True
        file = self.files[part]
        sample: _Sample | None = None
        seen = 0
        with open_file(file.url) as opened:
            try:
                suffix = f".{_LABEL}" if self.label_field is None else ".json"
                for member, content in _walk(opened, file, suffix):
                    if is_hidden(member.name):
                        findings.left_out["hidden"] += 1
                        continue
                    key, extension = _split(member.name)
                    is_next = sample is None or sample.key != key or extension in sample.others
                    if is_next:
                        if sample is not None:
                            yield self._entry(sample, part, findings)
                        sample = _Sample(key)
                        seen += 1
                    assert sample is not None
                    self._take(sample, member, extension, content, file)
            except (tarfile.TarError, EOFError) as error:
                if not seen:
                    raise UserError(
                        f"{file.url}: not a readable tar ({error}); fix or remove it"
                    ) from None
                if sample is not None:
                    yield self._entry(sample, part, findings, is_cut=True)
                    sample = None
                name = os.path.basename(file.url)
                problem = f"the tar is cut off after {seen} samples ({error})"
                yield Entry(os.fsencode(name), None, part, problem=problem)
        if sample is not None:
            yield self._entry(sample, part, findings)

    def open(self) -> Reader:
        """Of members where they lie."""
        return _TarReader(self.files)

    def _entry(
        self, sample: _Sample, part: int, findings: Findings, *, is_cut: bool = False
    ) -> Entry:
        """Of a sample; one before the place where the tar `is_cut` may lack its last members."""
        file = self.files[part]
        if len(sample.images) > 1:
            findings.left_out["further images of a sample"] += len(sample.images) - 1
        if sample.label is None and self.label_field is None and "json" in sample.others:
            findings.note(
                f"samples without {_LABEL}; their json may have labels (real.label_field)"
            )
        elif sample.label is None and "/" in sample.key and self.label_field is None:
            findings.note(f"samples without {_LABEL}; folders in tars are no classes")
        key, lacks_field = os.fsencode(sample.key), "json" not in sample.others
        if self.label_field is not None and sample.images and lacks_field and not is_cut:
            raise UserError(
                f"real.label_field: {file.url}: {sample.key} has no json; there are "
                f"{', '.join(sorted(sample.others))}; leave real.label_field out to read labels "
                f"from {_LABEL}"
            )
        if not sample.images:
            problem = f"no image among {', '.join(sorted(sample.others))}"
            if sample.has_link:
                problem = "a link within the tar, which is not followed"
            return Entry(key, sample.label, part, problem=problem)
        member = sample.images[min(sample.images, key=lambda name: (name.count("."), name))]
        place = member.offset_data, member.size, file.stamp
        return Entry(key, sample.label, part, *place)

    def _take(
        self, sample: _Sample, member: tarfile.TarInfo, extension: str, content: bytes, file: File
    ) -> None:
        sample.others.append(extension)
        if not member.isfile():
            sample.has_link = True
        elif is_image_name(f".{extension}"):
            sample.images[extension] = member
        elif extension == _LABEL and self.label_field is None:
            text = content.decode("utf-8", "replace").strip()
            sample.label = None if text.startswith("-") else text or None
        elif extension == "json" and self.label_field is not None:
            sample.label = _read_field(content, self.label_field, f"{file.url}: {sample.key}")


def _walk(opened: BinaryIO, file: File, suffix: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Files of a tar, with their content where they end in `suffix`."""
    with tarfile.open(fileobj=opened, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else it remembers every one
            if member.isdir() or not (member.isfile() or member.islnk() or member.issym()):
                continue
            if member.isfile() and member.offset_data + member.size > file.size:
                raise EOFError(f"{member.name} is not all there")
            is_wanted = member.isfile() and member.name.lower().endswith(suffix)
            content = tar.extractfile(member) if is_wanted else None
            yield member, content.read() if content is not None else b""
        rest = file.size - tar.offset
        if rest < 0 or 0 < rest < tarfile.BLOCKSIZE:  # a part of a header is no error to tarfile
            raise EOFError("its last member is not all there")


def _split(name: str) -> tuple[str, str]:
    """Key and extension of a member, by the rule of WebDataset."""
    from webdataset.tariterators import base_plus_ext

    key, extension = base_plus_ext(name)
    return (name, "") if key is None else (key, extension.lower())


def _read_field(content: bytes, name: str, place: str) -> str | None:
    try:
        fields = json.loads(content)
        if not isinstance(fields, Mapping):
            raise ValueError("no object")
    except ValueError as error:
        raise UserError(f"{place}.json: not readable ({error}); fix or remove it") from None
    if name not in fields:
        raise UserError(
            f"real.label_field: {place}.json has no {name!r}; there are "
            f"{', '.join(sorted(map(str, fields)))}"
        )
    return label_text(fields[name], f"{place}.json")


class _TarReader:
    def __init__(self, files: tuple[File, ...]) -> None:
        self._files = files

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        with OneOpen(self._files) as opened:
            for row in rows:
                file = opened[row.file]
                file.seek(row.position)
                content = file.read(row.size)
                whole = len(content) == row.size
                yield content if whole else UnreadableError("the tar ends before it")
