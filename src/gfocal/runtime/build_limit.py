"""A limit on the network that is built for a file: its recipe may ask for any size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

SPARE = 2**26
"""Numbers that any network may have: torchvision's and timm's parts are built whole, then those not needed dropped."""
TIMES = 4


class NetworkTooLarge(Exception):
    """A network has more numbers than it may have; nothing has been written to the last of them."""


@contextmanager
def parameters_within(count: int) -> Iterator[None]:
    """Refuse networks that are far larger than ``count`` numbers while they are being built by this thread.

    Their parameters together may have ``TIMES * count + SPARE`` numbers, those of parts that are dropped among them.

    Raises:
        NetworkTooLarge: they have more, or there is no memory for them.
    """
    most, seen, thread = TIMES * count + SPARE, 0, threading.get_ident()

    def add(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal seen
        if threading.get_ident() == thread and parameter is not None:
            seen += parameter.numel()
            if seen > most:  # before its values are drawn: until then the system has given no memory for them
                raise NetworkTooLarge(f"over {most:,}")

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    except (MemoryError, OverflowError) as error:
        raise NetworkTooLarge("more than the memory") from error
    except RuntimeError as error:
        if "memory" not in str(error) and "overflow" not in str(error):
            raise
        raise NetworkTooLarge("more than the memory") from error
    finally:
        hook.remove()
