"""Training a teacher: StyleGAN2 with adaptive augmentation on real images (Karras et al. 2020).

Reads real images, writes a resumable state, sample grids and metrics into a folder, and returns the
averaged generator with its discriminator; `stage.py` saves them as a checkpoint. One plain process.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image

from pipeline.config import TeacherConfig
from pipeline.interrupt import Interrupted, deferred_interrupts
from pipeline.metrics import MetricsLog
from pipeline.order import Order
from pipeline.progress import console, progress_bar
from pipeline.seeding import torch_generator
from pipeline.state import load_state, save_state
from pipeline.teacher.architecture import Architecture
from pipeline.teacher.augment import AdaController, augment
from pipeline.teacher.stylegan2 import Discriminator, Generator
from shards.errors import UserError

STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"
STATE_INTERVAL_S = 30.0
GRID_IMAGES = 20_000
W_AVG_BETA = 0.998
Gather = Callable[[np.ndarray], np.ndarray]


def build_architecture(config: TeacherConfig, resolution: int) -> Architecture:
    """Architecture that `config` asks for at the resolution of the real images."""
    return Architecture(
        resolution=resolution,
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        num_mapping_layers=config.num_mapping_layers,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
        conv_clamp=config.conv_clamp,
        mbstd_group_size=config.mbstd_group_size,
    )


@dataclass
class TeacherTrainer:
    """Both networks, their optimisers and the position; one `step` shows `global_batch` real
    images.
    """

    config: TeacherConfig
    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator
    ada: AdaController
    device: torch.device
    images_seen: int = 0

    @classmethod
    def create(
        cls, config: TeacherConfig, arch: Architecture, device: torch.device
    ) -> TeacherTrainer:
        """Fresh networks; their initial weights depend on the seed only."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_generator(config.seed, "teacher/init").initial_seed())
            generator, discriminator = Generator(arch), Discriminator(arch)
        for network in (generator, discriminator):
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        ada = AdaController(config.ada_target, config.ada_images)
        ema = copy.deepcopy(generator).requires_grad_(False)
        return cls(config, generator, discriminator, ema, ada, device)

    def __post_init__(self) -> None:
        rate, interval = self.config.learning_rate, self.config.r1_interval
        lazy = interval / (
            interval + 1
        )  # StyleGAN2 app. B: keep Adam's horizon with lazy regularisation
        self._optimizer_g = torch.optim.Adam(self.generator.parameters(), rate, (0.0, 0.99), 1e-8)
        self._optimizer_d = torch.optim.Adam(
            self.discriminator.parameters(), rate * lazy, (0.0, 0.99**lazy), 1e-8
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on exactly."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_ema": self.generator_ema.state_dict(),
            "optimizer_g": self._optimizer_g.state_dict(),
            "optimizer_d": self._optimizer_d.state_dict(),
            "ada": [self.ada.p, self.ada.overfitting],
            "images_seen": self.images_seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_ema.load_state_dict(state["generator_ema"])
        self._optimizer_g.load_state_dict(state["optimizer_g"])
        self._optimizer_d.load_state_dict(state["optimizer_d"])
        self.ada.p, self.ada.overfitting = state["ada"]
        self.images_seen = state["images_seen"]

    def step(self, real: Tensor) -> dict[str, float]:
        """One update of both networks on `real` [B, 3, R, R] in [-1, 1]; returns the losses."""
        step_index = self.images_seen // self.config.global_batch
        draws = torch_generator(self.config.seed, "teacher/step", step_index)
        loss_g = self._generator_step(draws)
        loss_d = self._discriminator_step(real, draws)
        if step_index % self.config.r1_interval == 0 and self.config.r1_gamma > 0:
            self._r1_step(real, draws)
        self.images_seen += len(real)
        self._average()
        return {"loss_generator": loss_g, "loss_discriminator": loss_d, "augment_p": self.ada.p}

    def _render(self, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        batch, arch = self.config.global_batch, self.generator.arch
        z = torch.randn(batch, arch.z_dim, generator=draws).to(self.device)
        resolutions = self.generator.synthesis.noise_resolutions
        noise = [torch.randn(batch, 1, r, r, generator=draws).to(self.device) for r in resolutions]
        ws = self.generator.mapping(z)
        return self.generator.synthesis(ws, noise).image, ws[:, 0]

    def _generator_step(self, draws: torch.Generator) -> float:
        self.discriminator.requires_grad_(False)
        image, w = self._render(draws)
        self.generator.mapping.w_avg.lerp_(w.detach().mean(0), 1 - W_AVG_BETA)
        loss = F.softplus(-self.discriminator(augment(image, self.ada.p, draws))).mean()
        self._update(self._optimizer_g, loss)
        self.discriminator.requires_grad_(True)
        return loss.item()

    def _discriminator_step(self, real: Tensor, draws: torch.Generator) -> float:
        with torch.no_grad():
            image = augment(self._render(draws)[0], self.ada.p, draws)
        real_logits = self.discriminator(augment(real, self.ada.p, draws))
        loss = F.softplus(self.discriminator(image)).mean() + F.softplus(-real_logits).mean()
        self._update(self._optimizer_d, loss)
        self.ada.update(real_logits.detach())
        return loss.item()

    def _r1_step(self, real: Tensor, draws: torch.Generator) -> None:
        augmented = augment(real, self.ada.p, draws).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(
            self.discriminator(augmented).sum(), augmented, create_graph=True
        )
        penalty = gradient.square().sum((1, 2, 3)).mean() * (self.config.r1_gamma / 2)
        self._update(self._optimizer_d, penalty * self.config.r1_interval)

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        if not loss.isfinite():
            raise UserError(
                f"teacher: loss is not finite at {self.images_seen} images; lower "
                "teacher.learning_rate"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _average(self) -> None:
        half_life = min(self.config.ema_images, self.images_seen * self.config.ema_rampup)
        beta = 0.5 ** (self.config.global_batch / max(half_life, 1e-8))
        with torch.no_grad():
            for average, current in zip(
                self.generator_ema.parameters(), self.generator.parameters(), strict=True
            ):
                average.lerp_(current, 1 - beta)
            for stale, fresh in zip(
                self.generator_ema.buffers(), self.generator.buffers(), strict=True
            ):
                stale.copy_(fresh)


def train_teacher(
    trainer: TeacherTrainer, gather: Gather, num_real: int, folder: Path, fingerprint: str
) -> None:
    """Train to `config.num_images`, going on from `folder`'s state if it has the same
    `fingerprint`.

    `gather` maps sample indices to uint8 images [B, 3, R, R].
    """
    config = trainer.config
    _resume(trainer, folder, fingerprint)
    order = Order(num_real, config.seed, "teacher")
    saved_at = time.monotonic()
    log = MetricsLog(folder / METRICS_FILE, "images_seen", trainer.images_seen)
    if trainer.images_seen:
        console.print(f"teacher   resumed at {trainer.images_seen:,} images")
    with progress_bar("images") as bar, deferred_interrupts() as is_interrupted:
        task = bar.add_task(
            "teacher", total=config.num_images, completed=trainer.images_seen, note=""
        )
        while trainer.images_seen < config.num_images:
            images = gather(order.indices(trainer.images_seen, config.global_batch))
            real = torch.from_numpy(images).to(trainer.device).float() / 127.5 - 1
            losses = trainer.step(real.contiguous(memory_format=torch.channels_last))
            loss_g, loss_d = losses["loss_generator"], losses["loss_discriminator"]
            note = f"G {loss_g:.2f}  D {loss_d:.2f}  p {trainer.ada.p:.2f}"
            bar.update(task, completed=min(trainer.images_seen, config.num_images), note=note)
            is_last = trainer.images_seen >= config.num_images
            if is_last or trainer.images_seen % GRID_IMAGES < config.global_batch:
                grid = folder / f"samples-{trainer.images_seen:08d}.png"
                save_samples(trainer.generator_ema, grid)
                log.write(trainer.images_seen, losses)
            if is_last or is_interrupted() or time.monotonic() - saved_at > STATE_INTERVAL_S:
                state = {"fingerprint": fingerprint, **trainer.state_dict()}
                save_state(folder / STATE_FILE, state)
                saved_at = time.monotonic()
            if is_interrupted():
                raise Interrupted


def _resume(trainer: TeacherTrainer, folder: Path, fingerprint: str) -> None:
    state = load_state(folder / STATE_FILE, trainer.device, fingerprint)
    if state is not None:
        trainer.load_state_dict(state)


def save_samples(
    generator: Generator, path: Path, *, rows: int = 10, columns: int = 16, seed: int = 0
) -> None:
    """Write a grid of samples of `generator` (stored noise maps, no truncation) as PNG."""
    device = next(generator.parameters()).device
    z = torch.randn(
        rows * columns, generator.arch.z_dim, generator=torch_generator(seed, "teacher/grid")
    ).to(device)
    with torch.no_grad():
        image = generator(z, "const").image
    save_image(
        image, path, nrow=columns, padding=1, normalize=True, value_range=(-1, 1), format="png"
    )
