"""What a GPU lent for a quarter of an hour is used for: two commands, `measure` and `train`.

Each is a list of parts (`measure.py`, `train.py`) that `parts.py` runs in processes of their own,
every one under its own time limit, and packs what came out as one file. `table.py` sets it beside
what was predicted. `../accelerator.md` is the text for who types it.
"""
