"""Workers: processes that perform runs, do jobs and send mails, beside the web process or on machines of their own."""

from encore.hub.work.supervision import WorkerProcess, run_worker

__all__ = ["WorkerProcess", "run_worker"]
