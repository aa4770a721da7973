"""What large pools cost, calculated."""

from benchmarks.measure import ResultTable


def tabulate_costs() -> list[ResultTable]:
    """All tables."""
    return []
