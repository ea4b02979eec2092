"""The store that a worker's settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sealtrail import connections
from sealtrail_processor.store import migrate
from sealtrail_processor.store.client import ClickHouseStore

if TYPE_CHECKING:
    from sealtrail_processor.settings import WorkerSettings
    from sealtrail_processor.store.port import Store


def open_store(
    settings: WorkerSettings, url: str = "", database: str = "", timeout_s: float = 120.0
) -> ClickHouseStore:
    """The store that the settings name, or another server or database of it.

    Raises:
        ConfigurationError: the file with its CAs cannot be read.
    """
    return ClickHouseStore(
        url or settings.store_url,
        settings.store_user,
        settings.store_password.get_secret_value(),
        database or settings.store_database,
        timeout_s=timeout_s,
        quorum=bool(settings.store_cluster),
        ca_file=connections.store_ca(settings),
    )


def layout(settings: WorkerSettings) -> migrate.Layout:
    """Names and choices that migrations put in."""
    return migrate.Layout(
        settings.store_database,
        settings.store_views,
        settings.store_policy,
        settings.store_cold_after_days,
        settings.store_cluster,
    )


def ready(store: Store, where: migrate.Layout) -> bool:
    """Whether the tables are those of this version.

    Raises:
        ConfigurationError: the store is newer, or an applied migration was changed.
        StoreUnavailable: it cannot be asked.
    """
    return not migrate.pending(migrate.shipped(), migrate.applied(store, where))
