"""Importers: history that others kept becomes events, told afterwards (`backfill`).

The way of a commit: `git` or `sample` (read) -> `commits` (plain values) ->
`events` (pure: commit to event) -> `run` (emit, checkpoint, go on after a crash).
"""
