"""What `workers.gemini` raises, for those who may import nothing else of `workers`: the root of `workers.errors`."""

from workers.errors import WorkerError

__all__ = ["WorkerError"]
