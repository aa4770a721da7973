"""All random numbers of one step of a teacher's training, of the whole global batch.

What is large, latents and noise, is drawn on the device of the training. The rest is drawn on the
CPU before the step begins: which batches mix styles and where, and what augmentation does to each
image, which goes to the device as one tensor, from page-locked memory where that is a GPU. So
nothing in the step waits for a number. Neighbours: `step.py` takes them, `augment_draws.py` says
what augmentation does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.teacher import TeacherConfig
from pipeline.engine.collectives import worker_part
from pipeline.engine.gpu import on_host
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.training.augment_draws import draw_augmentation

UPDATES = ("generator", "path_length", "discriminator")
"""Updates that map latents, each of which may mix styles."""
JUDGED = ("generated", "rendered", "real", "penalised")
"""Batches that the discriminator sees augmented: those of the generator's update, the two of its
own, and the real images again for R1."""


class StepDraws:
    """Drawn for all updates that a step may have, so that no number depends on which are due."""

    def __init__(
        self,
        config: TeacherConfig,
        index: int,
        resolution: int,
        num_ws: int,
        augment_p: float,
        device: torch.device,
    ) -> None:
        """Those of step `index` >= 0; `num_ws` are the generator's copies of `w`."""
        self._device = device
        self._on_device = torch_generator(config.seed, "teacher/latents", index, device)
        on_cpu = torch_generator(config.seed, "teacher/step", index)
        cutoffs = torch.randint(1, num_ws, (len(UPDATES),), generator=on_cpu).tolist()
        chances = torch.rand(len(UPDATES), generator=on_cpu).tolist()
        self._cutoffs = {
            update: cutoff if chance < config.style_mixing_p else None
            for update, cutoff, chance in zip(UPDATES, cutoffs, chances, strict=True)
        }
        self._augmentation: tuple[Tensor, ...] | None = None
        if augment_p > 0:
            batch = config.global_batch
            drawn = draw_augmentation(
                config.ada_pipe, len(JUDGED) * batch, resolution, augment_p, on_cpu
            )
            own = drawn.unflatten(0, (len(JUDGED), batch))[:, worker_part(batch)].contiguous()
            sent = on_host(own.numpy(), device).to(device, non_blocking=True)
            self._augmentation = sent.unbind()

    def normal(self, batch: int, *shape: int) -> Tensor:
        """This worker's rows [b, …] of [batch, …], standard normal, on the device."""
        drawn = torch.randn((batch, *shape), generator=self._on_device, device=self._device)
        return drawn[worker_part(batch)]

    def mixing_cutoff(self, update: str) -> int | None:
        """From which copy of `w` on this update's batch has other styles; None for no mixing."""
        return self._cutoffs[update]

    def augmentation(self, judged: str) -> Tensor | None:
        """What `augment` takes for this worker's images of one of `JUDGED`; None while p is 0."""
        return None if self._augmentation is None else self._augmentation[JUDGED.index(judged)]
