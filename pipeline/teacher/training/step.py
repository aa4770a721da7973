"""One step of training a teacher: StyleGAN2 with adaptive augmentation (Karras et al. 2020).

`loop.py` calls `TeacherTrainer.step` with real images and keeps what it makes. Losses, random
draws (`step_draws.py`) and batch statistics are of the global batch, so the number of workers
changes nothing but the order of float sums.

As in StyleGAN2-ADA: non-saturating loss, lazy R1 and path-length penalties, style mixing, and Adam
with its horizon kept under lazy penalties (app. B); a penalty of weight 0 leaves Adam alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline.config.hardware import CompileMode
from pipeline.config.teacher import TeacherConfig
from pipeline.engine.collectives import average_gradients, gather_batch, mean_over_workers
from pipeline.engine.gpu import LossGuard, begin_step, choose_compile_mode, choose_precision
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.networks.discriminator import Discriminator
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.training.ada import AdaController
from pipeline.teacher.training.augment import augment
from pipeline.teacher.training.penalties import path_lengths, r1_penalty
from pipeline.teacher.training.step_draws import StepDraws
from shards.errors import UserError

W_AVG_BETA = 0.998
PATH_LENGTH_DECAY = 0.01
PATH_LENGTH_SHARE = 2  # the penalty sees one in so many of the batch


def build_architectures(
    config: TeacherConfig, resolution: int
) -> tuple[StyleGAN2Architecture, StyleGAN2DiscriminatorArchitecture]:
    """Architectures that `config` asks for at the resolution of the real images."""
    shared: dict[str, Any] = {
        "resolution": resolution,
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
        "conv_clamp": config.conv_clamp,
        "num_half_blocks": config.num_half_blocks,
    }
    generator = StyleGAN2Architecture(
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        num_mapping_layers=config.num_mapping_layers,
        **shared,
    )
    discriminator = StyleGAN2DiscriminatorArchitecture(
        mbstd_group_size=config.mbstd_group_size, skips=config.discriminator_skips, **shared
    )
    return generator, discriminator


def choose_block_precision(config: TeacherConfig, device: torch.device) -> torch.dtype:
    """Arithmetic of the blocks made for half precision.

    Raises:
        UserError: if no block is made for what is asked for.
    """
    if config.precision == "bfloat16" and config.num_half_blocks == 0:
        raise UserError("teacher.precision: bfloat16 needs teacher.num_half_blocks above 0")
    return choose_precision(config.precision if config.num_half_blocks else "float32", device)


class TeacherTrainer:
    """Both networks, their optimisers and the position; a `step` shows `global_batch` images."""

    def __init__(
        self,
        config: TeacherConfig,
        resolution: int,
        device: torch.device,
        compile_networks: CompileMode = "off",
    ) -> None:
        """Fresh networks; their initial weights depend on the seed only."""
        self.config = config
        self.device = device
        self.images_seen = 0
        arch, arch_d = build_architectures(config, resolution)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_generator(config.seed, "teacher/init").initial_seed())
            self.generator, self.discriminator = Generator(arch), Discriminator(arch_d)
        precision = choose_block_precision(config, device)
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            network.set_precision(precision)
        self.generator_ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.generator_ema.set_precision(torch.float32)
        self.ada = AdaController(config.ada_target, config.ada_images, config.ada_interval)
        self.path_length = torch.zeros([], device=device)
        self._compile_mode = mode = choose_compile_mode(compile_networks, device)
        self._synthesis, self._discriminate = (
            network if mode is None else torch.compile(network, mode=mode, dynamic=False)
            for network in (self.generator.synthesis, self.discriminator)
        )  # not for penalties: torch.compile has no second derivatives
        self._guard = LossGuard()
        self._optimizer_g = self._adam(
            self.generator, config.path_length_interval if config.path_length_weight else None
        )
        self._optimizer_d = self._adam(
            self.discriminator, config.r1_interval if config.r1_gamma else None
        )

    def _adam(self, network: nn.Module, interval: int | None) -> torch.optim.Adam:
        ratio = 1.0 if interval is None else interval / (interval + 1)
        rate = self.config.learning_rate * ratio
        betas, is_fused = (0.0, 0.99**ratio), self.device.type == "cuda"
        return torch.optim.Adam(network.parameters(), rate, betas, 1e-8, fused=is_fused)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on exactly.

        Raises:
            UserError: if the last step's loss is not finite.
        """
        self._guard.settle()
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_ema": self.generator_ema.state_dict(),
            "optimizer_g": self._optimizer_g.state_dict(),
            "optimizer_d": self._optimizer_d.state_dict(),
            "ada": self.ada.state(),
            "path_length": self.path_length,
            "images_seen": self.images_seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_ema.load_state_dict(state["generator_ema"])
        self._optimizer_g.load_state_dict(state["optimizer_g"])
        self._optimizer_d.load_state_dict(state["optimizer_d"])
        self.ada.load(state["ada"])
        self.path_length = state["path_length"]
        self.images_seen = state["images_seen"]

    def step(self, real: Tensor) -> dict[str, Tensor | float]:
        """One update of both networks on this worker's part of the real images.

        Args:
            real: [b, C, R, R] in [-1, 1], `worker_part(global_batch)` of the global batch.

        Returns:
            Losses over the global batch, scalars on the device, and the `augment_p` that held and
            `overfitting` (r_t) that led to it.

        Raises:
            UserError: if a loss is not finite (`LossGuard` says when).
        """
        config, ada = self.config, self.ada
        index = self.images_seen // config.global_batch
        begin_step(self._compile_mode)
        ada.settle()
        resolution, num_ws = real.shape[-1], self.generator.arch.num_ws
        draws = StepDraws(config, index, resolution, num_ws, ada.p, self.device)
        metrics: dict[str, Tensor | float] = {"loss_generator": self._generator_step(draws)}
        if config.path_length_weight and index % config.path_length_interval == 0:
            metrics["path_length"] = self._path_length_step(draws)
        metrics["loss_discriminator"] = self._discriminator_step(real, draws)
        if config.r1_gamma and index % config.r1_interval == 0:
            self._r1_step(real, draws)
        self.images_seen += config.global_batch
        self._average()
        return {**metrics, "augment_p": ada.p, "overfitting": ada.overfitting}

    def _map(self, draws: StepDraws, batch: int, update: str) -> Tensor:
        """`ws` [b, num_ws, w_dim] of this worker's part of `batch` fresh latents, styles mixed."""
        arch, cutoff = self.generator.arch, draws.mixing_cutoff(update)
        ws: Tensor = self.generator.mapping(draws.normal(batch, arch.z_dim))
        if self.config.style_mixing_p:
            other = draws.normal(batch, arch.z_dim)
            if cutoff is not None:
                ws = torch.cat([ws[:, :cutoff], self.generator.mapping(other)[:, cutoff:]], 1)
        return ws.contiguous()  # mixed or not: other strides would compile the synthesis again

    def _noise(self, draws: StepDraws, batch: int) -> list[Tensor]:
        return [draws.normal(batch, 1, r, r) for r in self.generator.noise_resolutions]

    def _judge(
        self,
        images: Tensor,
        drawn: Tensor | None,
        network: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Logits [b, 1] of this worker's `images`, augmented as `drawn`; by the compiled
        discriminator unless `network` is given.
        """
        augmented = augment(images, drawn)
        # augmented or not: another layout would compile the discriminator again
        augmented = augmented.contiguous(memory_format=torch.channels_last)
        logits: Tensor = (network or self._discriminate)(augmented)
        return logits

    def _generator_step(self, draws: StepDraws) -> Tensor:
        batch = self.config.global_batch
        self.discriminator.requires_grad_(False)
        ws = self._map(draws, batch, "generator")
        mean_w = mean_over_workers(ws[:, 0].mean(0))
        self.generator.mapping.w_avg.lerp_(mean_w, 1 - W_AVG_BETA)
        image = self._synthesis(ws, self._noise(draws, batch))
        loss = F.softplus(-self._judge(image, draws.augmentation("generated"))).mean()
        self._update(self._optimizer_g, self.generator, loss)
        self.discriminator.requires_grad_(True)
        return mean_over_workers(loss)

    def _path_length_step(self, draws: StepDraws) -> Tensor:
        """Path-length regularisation; returns the running mean of the lengths."""
        batch = self.config.global_batch // PATH_LENGTH_SHARE
        ws = self._map(draws, batch, "path_length")
        image = self.generator.synthesis(ws, self._noise(draws, batch))
        noise = draws.normal(batch, *image.shape[1:])
        lengths = path_lengths(image, ws, noise)
        mean = self.path_length.lerp(gather_batch(lengths).mean(), PATH_LENGTH_DECAY)
        self.path_length = mean.detach()
        penalty = (lengths - mean).square().mean() * self.config.path_length_weight
        self._update(self._optimizer_g, self.generator, penalty * self.config.path_length_interval)
        return self.path_length

    def _discriminator_step(self, real: Tensor, draws: StepDraws) -> Tensor:
        batch = self.config.global_batch
        with torch.no_grad():
            ws = self._map(draws, batch, "discriminator")
            image = self._synthesis(ws, self._noise(draws, batch))
        loss = F.softplus(self._judge(image, draws.augmentation("rendered"))).mean()
        real_logits = self._judge(real, draws.augmentation("real"))
        self.ada.update(real_logits.detach(), batch)
        loss = loss + F.softplus(-real_logits).mean()
        self._update(self._optimizer_d, self.discriminator, loss)
        return mean_over_workers(loss)

    def _r1_step(self, real: Tensor, draws: StepDraws) -> None:
        """R1, through the augmentation as in StyleGAN2-ADA."""
        images = real.detach().requires_grad_()
        logits = self._judge(images, draws.augmentation("penalised"), self.discriminator)
        penalty = self.config.r1_gamma * r1_penalty(logits, images)
        self._update(self._optimizer_d, self.discriminator, penalty * self.config.r1_interval)

    def _update(self, optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
        problem = f"teacher: loss is not finite at {self.images_seen} images"
        self._guard.watch(mean_over_workers(loss), f"{problem}; lower teacher.learning_rate")
        loss.backward()
        average_gradients(network.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # a CUDA graph's memory must not outlive the step

    def _average(self) -> None:
        half_life: float = self.config.ema_images
        if self.config.ema_rampup is not None:
            half_life = min(half_life, self.images_seen * self.config.ema_rampup)
        beta = 0.5 ** (self.config.global_batch / max(half_life, 1e-8))
        average, current = self.generator_ema, self.generator
        get_ema_multi_avg_fn(beta)(list(average.parameters()), list(current.parameters()), None)
        for stale, fresh in zip(average.buffers(), current.buffers(), strict=True):
            stale.copy_(fresh)
