"""RQ's record of a job, in the one respect in which ours differs."""

from contextlib import suppress

from rq.executions import Execution, ExecutionRegistry
from rq.job import Job


class DeletableJob(Job):
    """A job whose record can be deleted although an execution of it died with its worker.

    RQ keeps the id of such an execution for a minute longer than the execution itself, and raises when it looks it
    up: in a job that was taken up again and has succeeded, and in whoever replaces a failed one.
    """

    @property
    def execution_registry(self) -> ExecutionRegistry:
        return _Executions(self.id, connection=self.connection)


class _Executions(ExecutionRegistry):
    def get_executions(self, start: int = 0, end: int = -1) -> list[Execution]:
        found = []
        for execution_id in self.get_execution_ids(start, end):
            execution = Execution(execution_id, self.job_id, self.connection)
            # Without its hash, the id alone is enough to be removed by.
            with suppress(ValueError):
                execution.refresh()  # type: ignore[no-untyped-call]
            found.append(execution)
        return found
