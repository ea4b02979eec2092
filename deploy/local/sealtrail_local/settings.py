"""Settings of the embedded stack (`SEALTRAIL_*`)."""

from sealtrail.settings import CommonSettings


class LocalSettings(CommonSettings):
    """What can be set for the embedded stack."""
