"""The ledger, the only store of numbers, and what is asked of it: queries, spreads, tables."""
