"""The contract of Sealtrail: what producers, processors and auditors agree on.

No Kafka and no ClickHouse in here: an auditor installs just this package.
"""

__version__ = "0.1.0"
