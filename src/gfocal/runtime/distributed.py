"""The processes that train together, each with its share of every batch; one where nothing was launched.

``torchrun`` and ``accelerate launch`` start them and say to each which one it is; accelerate connects them.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn

from gfocal.errors import GfocalError, UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """What they tell each other. Every method but :attr:`main` must be called by all of them, in the same order.

    Attributes:
        rank: of this one, 0..count-1.
        count: of all of them.
        device: where tensors on their way lie.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | str = "cpu"

    @property
    def main(self) -> bool:
        """The one that writes files and prints."""
        return self.rank == 0

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over the processes; the tensor itself where there is one."""
        if self.count == 1:
            return tensor
        total = tensor.detach().to(self.device, copy=True)
        distributed.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether it is true in one of them, so that all decide alike."""
        return flag if self.count == 1 else bool(self.add_up(torch.tensor(int(flag))))

    def gather(self, value: T) -> list[T]:
        """What each of them has, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """What the main process has."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=torch.device(self.device))
        return values[0]

    def raise_from_main(self, error: GfocalError | None) -> None:
        """Raise in all of them what the main process met, if it met something."""
        if error := self.from_main(error):
            error.together = True
            raise error

    def copy_from_main(self, module: nn.Module) -> None:
        """Give all of them the main process's parameters and statistics, which batch norm makes differ."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, src=0)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """What goes wrong inside, only this process knows of, unless they decided it together: say which one it is.

        Raises:
            GfocalError: the others are gone, which torch tells in a long message about sockets.
        """
        try:
            yield
        except GfocalError as error:
            if self.count > 1 and not error.together:
                error.process = self.rank
            raise
        except RuntimeError as error:
            if self.count == 1 or not _CONNECTION.search(str(error)):
                raise
            lost = GfocalError("the other processes are gone: one of them failed, and its own message says why")
            lost.process = self.rank
            raise lost from error

    def wait(self) -> None:
        """Until all of them are here."""
        if self.count > 1:
            distributed.barrier()


_CONNECTION = re.compile(r"gloo|nccl|connection (closed|reset)|recvvalue failed", re.IGNORECASE)

ALONE = Processes()


def launched() -> bool:
    """Whether a launcher started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes_of(accelerator: Accelerator) -> Processes:
    """Those that accelerate has connected."""
    if accelerator.num_processes == 1:
        return ALONE
    atexit.register(_leave)
    return Processes(accelerator.process_index, accelerator.num_processes, accelerator.device)


def synchronise_batch_norm(module: nn.Module, processes: Processes) -> nn.Module:
    """The module with batch norm that learns from the images of all processes; names and values stay.

    Raises:
        UsageError: on CPUs, for which torch has none.
    """
    if processes.count == 1:
        return module  # the batch of this process is the whole
    if torch.device(processes.device).type == "cpu":
        raise UsageError(
            "runtime.sync_batch_norm works on GPUs alone: on CPUs set it to false, and freeze batch norm "
            "(model.norm_eval) or train in one process if its statistics matter"
        )
    # timm's, which knows its own layers of norm and activation in one too.
    from timm.layers import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(module)
    return converted


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
