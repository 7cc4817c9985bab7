"""Random numbers of PyTorch that leave its global state alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def seeded(random_state: int) -> Iterator[None]:
    """Draw from PyTorch's generators with a seed, and put them back afterwards.

    Parameters
    ----------
    random_state
        Seed.
    """
    with torch.random.fork_rng():
        torch.manual_seed(random_state)
        yield
