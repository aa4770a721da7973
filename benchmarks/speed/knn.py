"""`python -m benchmarks.speed.knn`: neighbours of cosine in blocks beside FAISS alone.

Keys and queries are float32, the keys on disk in several blocks for ours, which normalises both and
merges what it finds in each block; the rival adds the same keys, normalised before, to an
`IndexFlatIP` all at once and searches. Both read the keys from the page cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import (
    OURS,
    TableCell,
    against_rivals,
    common_parser,
    interleave,
    prepare,
    tabulate_ratios,
)
from pipeline.measures.knn import nearest, normalised
from pipeline.samples.seeding import numpy_generator
from pipeline.student.vectors import Vectors

RIVAL = "IndexFlatIP"
_BLOCK_ROWS = 16_384


def compare(
    num_keys: int, num_dims: int, num_queries: int, k: int, device: torch.device, repeats: int
) -> list[tuple[TableCell, ...]]:
    """Queries per second on both sides."""
    import faiss

    generator = numpy_generator(0, "benchmarks/knn")
    keys, queries = (
        normalised(generator.standard_normal((count, num_dims), np.float32))
        for count in (num_keys, num_queries)
    )
    found: dict[str, np.ndarray] = {}

    def theirs() -> None:
        index: Any = faiss.IndexFlatIP(num_dims)
        if device.type == "cuda":
            index = faiss.index_cpu_to_all_gpus(index)
        index.add(keys)
        found[RIVAL] = index.search(queries, k)[1]

    with tempfile.TemporaryDirectory() as folder:
        on_disk = _write(Path(folder), keys)

        def ours() -> None:
            found[OURS] = nearest(queries, on_disk, k)[1]

        seconds = interleave({OURS: ours, RIVAL: theirs}, repeats, device)
    agreement = float((found[OURS] == found[RIVAL]).mean())
    if agreement < 0.999:  # ties
        raise RuntimeError(f"only {agreement:.4f} of the neighbours are the same")
    rates = {name: num_queries / value for name, value in seconds.items()}
    return against_rivals(f"{num_keys:,} x {num_dims}, k = {k}", "queries/s", rates)


def _write(folder: Path, keys: np.ndarray) -> Vectors:
    blocks = []
    for start in range(0, len(keys), _BLOCK_ROWS):
        path = folder / f"{start}.npy"
        np.save(path, keys[start : start + _BLOCK_ROWS])
        blocks.append(np.load(path, mmap_mode="r"))
    return Vectors(blocks)


def tabulate(
    ks: Sequence[int], num_keys: int, num_dims: int, num_queries: int, repeats: int
) -> Sequence[tuple[TableCell, ...]]:
    """A row for every k."""
    import faiss

    device = torch.device("cuda" if faiss.get_num_gpus() > 0 else "cpu")
    return [row for k in ks for row in compare(num_keys, num_dims, num_queries, k, device, repeats)]


def main() -> None:
    """Run the command line."""
    parser = common_parser("Neighbours in blocks, FAISS alone beside.")
    parser.add_argument("--keys", type=int, default=300_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--k", type=int, nargs="+", default=[20, 200])
    arguments = parser.parse_args()
    _, device = prepare(arguments)
    if arguments.threads:
        import faiss

        faiss.omp_set_num_threads(arguments.threads)
    sizes = (arguments.keys, arguments.dims, arguments.queries, arguments.repeats)
    tabulate_ratios("kNN", device, tabulate(arguments.k, *sizes)).show()


if __name__ == "__main__":
    main()
