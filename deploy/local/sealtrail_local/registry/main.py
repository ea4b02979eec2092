"""The registry's process: open, serve, close."""

from typing import Final

from sealtrail_local.settings import LocalSettings

_HOST: Final = "127.0.0.1"


def run(settings: LocalSettings) -> None:
    """Serve the registry until SIGTERM.

    Args:
        settings: where it listens and keeps its file.

    Raises:
        UnavailableError: its file cannot be opened.
    """
    import uvicorn

    from sealtrail_local.loopback import LoopbackOnly
    from sealtrail_local.registry.app import build
    from sealtrail_local.registry.registry import Registry
    from sealtrail_local.registry.storage import Storage

    folder = settings.state_dir.resolve() / "registry"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    storage = Storage(folder / "registry.sqlite")
    try:
        uvicorn.run(
            LoopbackOnly(build(Registry(storage))),
            host=_HOST,
            port=settings.local_registry_port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=3,
            http="h11",
            loop="asyncio",
        )
    finally:
        storage.close()
