"""Files of BigGANs of any size, as BigGAN-PyTorch and pytorch-pretrained-BigGAN write them, with
random tensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.speed.reference_biggan import (
    Sizes,
    State,
    random_discriminator,
    random_generator,
)
from benchmarks.speed.reference_biggan_deep import DeepSizes, random_deep_generator

PLAIN = Sizes((16, 8, 8), (4, 8, 8))
"""Of 16 px; every normalisation has class embeddings of its own."""
SHARED = Sizes((16, 16, 8), (8, 16, 16), (0, 1), (0,), z_dim=10, num_classes=4, shared_dim=6)
HIERARCHICAL = Sizes(
    (24, 16, 16, 8), (8, 8, 16, 24), (1,), (2,), z_dim=12, num_classes=3, shared_dim=5,
    is_hierarchical=True, num_halvings=3,
)  # fmt: skip
"""Of 32 px."""
BIGGANS = {"plain": PLAIN, "shared": SHARED, "hierarchical": HIERARCHICAL}

FLAT = DeepSizes(((True, 4, 4), (True, 4, 2)), attention_at=9)
"""Without attention, of 16 px."""
DEEP = DeepSizes(
    ((False, 8, 8), (True, 8, 4), (False, 4, 4), (True, 4, 2), (True, 2, 2)),
    attention_at=2, z_dim=5, num_classes=3, num_statistics=6, eps=1e-3,
)  # fmt: skip
"""Of 32 px."""
DEEPS = {"flat": FLAT, "deep": DEEP}


def write_training(
    folder: Path, sizes: Sizes, suffix: str = "", seed: int = 0, **options: Any
) -> tuple[State, State]:
    """Files of a training in `folder`; returns what the averaged generator and the discriminator
    hold. `options` go into `state_dict.pth`.
    """
    folder.mkdir(exist_ok=True)
    averaged, judge = random_generator(sizes, seed), random_discriminator(sizes, seed + 1)
    config = {
        "model": "BigGAN",
        "resolution": 4 * 2 ** (len(sizes.widths) - 1),
        "n_classes": sizes.num_classes,
        "G_nl": "inplace_relu",
        "G_activation": nn.ReLU(inplace=True),
        "SN_eps": 1e-6,
        "BN_eps": 1e-5,
    }
    contents = {
        "G": random_generator(sizes, seed + 2),
        "G_ema": averaged,
        "D": judge,
        "G_optim": {"state": {}},
        "state_dict": {"itr": 1, "config": config | options},
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}{suffix}.pth")
    return averaged, judge


def write_deep(folder: Path, sizes: DeepSizes, prefix: str = "", *, is_zip: bool = False) -> State:
    """`pytorch_model.bin` and `config.json` in `folder`; returns what the former holds."""
    folder.mkdir(exist_ok=True)
    state = random_deep_generator(sizes)
    weights = folder / f"{prefix}pytorch_model.bin"
    torch.save(state, weights, _use_new_zipfile_serialization=is_zip)
    (folder / f"{prefix}config.json").write_text(json.dumps(sizes.config))
    return state
