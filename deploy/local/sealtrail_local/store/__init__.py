"""ClickHouse's HTTP interface over chDB, the same engine in a library.

A request goes through the modules in this order:

    confine      the process itself is locked into its folder (Landlock), once, before chDB is
    loaded engine       the one engine of this process, its configuration and its handles users
    who calls bodies       what was sent: statement text in memory, data in an unlinked file
    statements   how a statement is cut: header, settings, format, data gate         what this
    caller may say sessions     a handle with the caller's roles, limits, database and settings
    results      the answer, whole or as a stream errors       ClickHouse's codes and texts server
    the request handler that joins them
"""
