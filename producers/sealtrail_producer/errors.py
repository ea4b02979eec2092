"""What the SDK raises beyond `sealtrail.errors`.

SealtrailError
├── ConfigurationError
│   ├── KeyFileError           a key file that is missing, open to others or does not decrypt
│   ├── MoreSignaturesError    a record that other operators must sign, too
│   └── PartitionCountError    the topic has another number of partitions than SEALTRAIL_PARTITIONS
├── EventError                 (sealtrail.errors) a value that cannot become an event
└── UnavailableError
    ├── TrailClosedError       the trail was closed
    ├── SpoolError             the spool cannot be used
    │   ├── SpoolFullError     its bound is reached and nothing was acknowledged yet
    │   └── SpoolDiskError     the disk refused (full, read-only, failing)
    └── DeliveryError          the brokers refused or could not be reached
"""

from sealtrail.errors import ConfigurationError, UnavailableError


class KeyFileError(ConfigurationError):
    """A private key cannot be used as it lies there."""


class MoreSignaturesError(ConfigurationError):
    """The operators on this machine are fewer than the root's threshold: the record waits."""


class PartitionCountError(ConfigurationError):
    """The topic's partitions are not those that chain ids were computed with."""


class MessageRefusedError(ConfigurationError):
    """The brokers' limits are below what the spool holds: somebody has to change a setting."""


class TrailClosedError(UnavailableError):
    """The trail was closed: nothing can be emitted any more."""


class SpoolError(UnavailableError):
    """The spool cannot take or give records."""


class SpoolFullError(SpoolError):
    """The spool holds as much as it may; nothing is dropped, so nothing more is taken."""


class SpoolDiskError(SpoolError):
    """The operating system refused to write or to sync."""


class SigningError(UnavailableError):
    """A signer (a file, a module, a vault) did not sign."""


class DeliveryError(UnavailableError):
    """The brokers did not take a message."""
