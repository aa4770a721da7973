"""CIFAR-10 at full size on a GPU that is borrowed for half an hour at a time.

`steps.py` has the list of what is worth running, `commands.py` runs one of them within some
minutes, `travel.py` brings states from one machine to the next, `results.py` keeps what came out.
`../accelerator.md` is the text for who types it.
"""
