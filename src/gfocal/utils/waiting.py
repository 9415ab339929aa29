"""How threads of OpenMP wait for each other; read when torch is loaded."""

from __future__ import annotations

from collections.abc import MutableMapping


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let waiting threads spin for microseconds and then sleep, unless the environment says how they shall wait.

    By default they spin for milliseconds, on cores that the loader's processes need. Asleep at once, they wake so late
    that a small network trains on two cores as slowly as on one (docs/results.md has both).

    Args:
        environment: of this process, before torch is loaded, or of one to be started. Changed in place.
    """
    if not environment.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment["GOMP_SPINCOUNT"] = "10000"  # overrules the policy in GCC's OpenMP, which torch has on Linux
