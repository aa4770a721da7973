"""Refuses pickles made to exhaust memory or time, before and after they are read.

Neighbour: `safe_pickle.py` sees to it that nothing in them is executed.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, cast

MAX_OPCODES = 1_000_000  # the official files have some ten thousand; scanned in some 4 s
MAX_NESTING = 100  # of containers in the result; the official files reach about 30
MAX_LITERAL_BYTES = 2**31  # of one tensor in a pickle
MAX_LINE_BYTES = 2**16  # of a name
STORAGE_CLASS = re.compile(r"torch(?:\.cuda)? \w+Storage")

FORBIDDEN = {"PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
GETS = {"GET", "BINGET", "LONG_BINGET"}
TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
# All that torch.save writes around one storage. No call, and no way to use an object twice.
PAYLOAD_OPCODE = re.compile(
    r"PROTO|STOP|GLOBAL|BINPERSID|(LONG_)?BINPUT|MARK|TUPLE|EMPTY_(LIST|DICT)|APPENDS?|SETITEMS?|"
    r"NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG1|BINUNICODE"
)


class _Limited:
    """What `pickletools` reads: it would take a literal or line as long as the file into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell

    def read(self, num: int) -> bytes:
        if num > MAX_LITERAL_BYTES:
            raise pickle.UnpicklingError(f"a literal of {num} bytes")
        return self._file.read(num)

    def readline(self) -> bytes:
        return self._file.readline(MAX_LINE_BYTES)


def scan_opcodes(file: BinaryIO, size: int, *, may_be_persistent: bool = False) -> None:
    """Raise for a stream that could make the unpickler take memory or time out of proportion;
    persistent ids are for torch files.

    The stack is followed for one reason: a tuple used as a key is hashed through all its parts, so
    few opcodes can ask for 2^60 steps. Each object has a weight, the steps that hashing it takes.
    """
    weights: list[int] = []
    marks: list[int] = []
    memo: dict[Any, int] = {}
    effort_left = 5 * MAX_OPCODES + size
    for count, (opcode, argument, _) in enumerate(
        pickletools.genops(cast(BinaryIO, _Limited(file)))
    ):
        name = opcode.name
        is_refused = name in FORBIDDEN or (name == "BINPERSID" and not may_be_persistent)
        if is_refused or count == MAX_OPCODES:
            raise pickle.UnpicklingError(f"{name}, opcode {count}, is refused")
        if isinstance(argument, int):
            # The unpickler makes room for all memo entries up to the index; writers count them.
            limit = count if name in PUTS else size if name == "FRAME" else 2**64
            if abs(argument) > limit:
                raise pickle.UnpicklingError(f"the number that {name} has is too large")
        if name == "MARK":
            marks.append(len(weights))
        elif name == "POP" and marks and marks[-1] == len(weights):
            marks.pop()
        elif name in PUTS or name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = weights[-1]
        elif name in GETS:
            weights.append(memo[argument])
        elif name == "DUP":
            weights.append(weights[-1])
        else:
            taken, has_mark = opcode.stack_before, pickletools.markobject in opcode.stack_before
            num_below = taken.index(pickletools.markobject) if has_mark else len(taken)
            start = (marks.pop() if has_mark else len(weights)) - num_below
            weight = 1 + sum(weights[start:])
            effort_left -= weight
            if start < 0 or effort_left < 0:
                raise pickle.UnpicklingError("objects nested too deeply, or repeated too often")
            del weights[start:]
            if name not in TUPLES:
                weight = 1 + (len(argument) // 64 if isinstance(argument, str | bytes) else 0)
            weights += [weight] * len(opcode.stack_after)


def check_tree(root: Any, parts: Callable[[Any], Iterable[Any] | None]) -> None:
    """Raise for data that its reader could not walk: cyclic, too deep, or shared out of measure.

    `parts` gives what an object holds, None for a leaf.
    """
    stack, num_nodes = [(root, 0)], 0
    while stack:
        node, depth = stack.pop()
        children = parts(node)
        if children is None:
            continue
        children = list(children)
        num_nodes += len(children)
        if depth > MAX_NESTING or num_nodes > MAX_OPCODES:
            raise ValueError("objects nested too deeply, or too many")
        stack.extend((child, depth + 1) for child in children)


def scan_payload(raw: bytes) -> int:
    """How many bytes of data follow the header of a stored tensor, a header like torch.save's."""
    file, has_key = io.BytesIO(raw), False
    for part in range(5):  # magic number, version, machine, storage, keys
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if not PAYLOAD_OPCODE.fullmatch(opcode.name) or count > 1000:
                raise ValueError(f"{opcode.name}, opcode {count}, is refused")
            if opcode.name == "GLOBAL" and not STORAGE_CLASS.fullmatch(str(argument)):
                raise ValueError(f"global {argument}")
            if part == 3 and isinstance(argument, int) and argument > len(raw):
                raise ValueError(f"{argument} elements in {len(raw)} bytes")
            has_key |= part == 4 and isinstance(argument, str)
    if not has_key:
        raise ValueError("no data")
    return len(raw) - file.tell() - 8  # the number of elements comes first
