"""One step of training a student: losses of a batch, gradients, update.

Neighbours: `loop.py` hands in batches and keeps what is made, `methods/` have the losses. The
method's whole forward pass, losses included, is compiled, and runs in half precision, where the
device gains by it (`engine/gpu.py`); weights, statistics of batch normalisation and losses stay
float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config.hardware import CompileMode
from pipeline.config.train import TrainConfig
from pipeline.engine.collectives import num_workers, worker_rank
from pipeline.engine.gpu import (
    LossGuard,
    begin_step,
    choose_compile_mode,
    choose_precision,
    compile_in_place,
)
from pipeline.samples.seeding import torch_generator
from pipeline.train.batch_norm import synchronise_batch_norm
from pipeline.train.method import Batch, Method, StepOutput, check_output
from pipeline.train.optimizer import StudentOptimizer, divergence_remedy


class StudentTrainer:
    """A method's networks on their device, with their optimiser."""

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        device: torch.device,
        compile_networks: CompileMode = "off",
    ) -> None:
        """Takes `method`, fresh from `build_method`."""
        self.config = config
        self.device = device
        self.method: Method = synchronise_batch_norm(method, device).to(device)
        self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.2-1.5 x on CPUs
        self._compile_mode = choose_compile_mode(compile_networks, device)
        if self._compile_mode is not None and num_workers() > 1:
            # splitting the graph at the buckets of DDP mixes up its outputs (torch 2.12)
            torch._dynamo.config.optimize_ddp = False
        compile_in_place(self.method, self._compile_mode)
        self._precision = choose_precision(config.precision, device)
        self._optimizer = StudentOptimizer(config, self.method, device)
        self._wrapped: nn.Module = (
            DistributedDataParallel(self.method, broadcast_buffers=False)
            if num_workers() > 1
            else self.method
        )
        self._guard = LossGuard()
        self._wrapped.train()

    def losses(self, batch: Batch, step: int) -> StepOutput:
        """What the method makes of the batch; raises UserError if it is not what it has to be.

        Dropout and stochastic depth, and whatever else a method draws from torch's own generators,
        are functions of the step and the worker: with another number of workers they are other
        draws of the same distribution.
        """
        begin_step(self._compile_mode)
        self._seed(step)
        is_half = self._precision != torch.float32
        with torch.autocast(self.device.type, self._precision, enabled=is_half):
            return check_output(self._wrapped(batch), self.config)

    def _seed(self, step: int) -> None:
        purpose = f"train/inside/{worker_rank()}"
        seed = torch_generator(self.config.seed, purpose, step).initial_seed()
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def update(self, output: StepOutput, step: int, epoch: float) -> float:
        """Move the weights at the rate of `epoch`, a fraction within one; returns the rate.

        Raises:
            UserError: if the loss is not finite (`LossGuard` says when).
        """
        remedy = divergence_remedy(self.config, step)
        self._guard.watch(output.loss, f"train: the loss is not finite at step {step}; {remedy}")
        self.backward(output)
        return self._optimizer.step(epoch)

    def backward(self, output: StepOutput) -> None:
        """Gradients of the loss."""
        output.loss.backward()

    def state_dict(self) -> dict[str, Any]:
        """Networks and optimiser, for `load_state_dict`; raises as `update` does."""
        self._guard.settle()
        return {"method": self.method.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.method.load_state_dict(state["method"])
        self._optimizer.load_state_dict(state["optimizer"])
