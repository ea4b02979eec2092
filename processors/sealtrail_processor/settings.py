"""Settings of the worker (`SEALTRAIL_*`)."""

from sealtrail.settings import CommonSettings


class WorkerSettings(CommonSettings):
    """What can be set for the stream processor."""
