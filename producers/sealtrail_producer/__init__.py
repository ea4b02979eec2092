"""SDK for services: emit, batch, sign, spool, send; importers; example services."""
