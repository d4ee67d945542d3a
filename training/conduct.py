"""How a run is carried out: nothing here changes which numbers it computes, beyond the order of sums."""

from dataclasses import dataclass, fields
from typing import Literal

from lens.numeric import settle_numbers


@dataclass(frozen=True)
class Conduct:
    """Processes, saves and reports of one run."""

    threads: int | None = None
    """Of each process; default: torch's own choice."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Every process holds the whole model (ddp), or a share of it (fsdp), for models too large for one device."""
    microbatch: int | None = None
    """Chunks that a device works on at once; default: the recipe's."""
    keep_last: int = 2
    """Newest saves to keep."""
    keep_every: int | None = None
    """Keep the weights of every so many steps, for `export --step`."""
    evaluations: int = 20
    """Times that the losses on held-out clean and toxic text are taken."""
    wandb: str | None = None
    """A Weights & Biases project to log to; without a key, or offline, the log stays in the run's folder."""
    patience_s: int = 1800
    """Seconds to wait for the other processes."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        for name in ("threads", "microbatch", "keep_last", "keep_every", "evaluations", "patience_s"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")

    def arguments(self) -> list[str]:
        """The same as command-line options."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return [
            word
            for name, value in given.items()
            if value is not None
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
