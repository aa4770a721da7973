"""The ledger of all numbers that evaluations have measured, and the tables made of it."""
