"""Lock this process into the store's folder with Landlock (Linux 5.13 or newer).

chDB is built as clickhouse-local: its scalar `file()` has no path limit and no grant. The gate
keeps it from analysts; this keeps it, and whatever else an engine of a million lines may offer,
from everybody: the kernel refuses every path outside the list below and every outgoing TCP
connection.

Must be called before chDB is imported and before any thread starts that it shall hold for: it does
for the calling thread and what that thread starts later. Source:
Documentation/userspace-api/landlock.rst of the kernel.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sealtrail.errors import UnavailableError

# Numbers of the system calls; the same on all architectures (they came after the tables were
# unified).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH, _RULE_PORT = 1, 2
_VERSION_FLAG: Final = 1
_SET_NO_NEW_PRIVILEGES: Final = 38

_READ: Final = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, list a directory
# write a file, remove directories and files, make directories and files, make symlinks, refer,
# truncate
_WRITE: Final = sum(1 << bit for bit in (1, 4, 5, 7, 8, 12, 13, 14))
_FILE_ONLY: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14  # what a rule on a file may hold
_BIND, _CONNECT = 1 << 0, 1 << 1
# How many file rights each version of the interface knows; 15 from version 3 on is all that we use.
_FILE_RIGHTS: Final = {1: 13, 2: 14}
_NETWORK_SINCE: Final = 4

# What Python, OpenSSL and the engine read outside their own folders.
_SYSTEM: Final = (
    "/usr/lib", "/lib", "/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/localtime",
    "/etc/timezone", "/etc/ld.so.cache", "/etc/mime.types", "/dev/null", "/dev/urandom",
    "/sys/devices/system", "/sys/fs/cgroup", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/proc/loadavg", "/proc/filesystems", "/proc/self/statm", "/proc/self/stat",
    "/proc/self/status", "/proc/self/maps", "/proc/self/cgroup", "/proc/self/mountinfo",
    # Without it the engine looks for these values behind `environ`, which putenv has moved: a crash
    # at loading, or not, by what lies there.
    "/proc/self/auxv",
)  # fmt: skip


def supported() -> int:
    """Version of Landlock that this kernel offers; 0 for none."""
    return max(_system_call(_CREATE_RULESET, None, 0, _VERSION_FLAG), 0)


def confine(write: Iterable[Path], read: Iterable[Path], port: int) -> int:
    """Lock the calling thread and all that it starts later.

    Args:
        write: folders that stay writable.
        read: folders and files that stay readable.
        port: the one TCP port that may still be bound.

    Returns:
        The version of Landlock in force; 0 if the kernel has none and nothing was locked.

    Raises:
        UnavailableError: the kernel offers Landlock, but refuses to apply it.
    """
    version = supported()
    if version == 0:
        return 0
    rights = (1 << _FILE_RIGHTS.get(version, 15)) - 1
    network = _BIND | _CONNECT if version >= _NETWORK_SINCE else 0
    # struct landlock_ruleset_attr: handled_access_fs, and from version 4 handled_access_net.
    attributes = struct.pack("QQ", rights, network)
    rules = _system_call(_CREATE_RULESET, attributes, len(attributes) if network else 8, 0)
    if rules < 0:
        raise _refused("landlock_create_ruleset")
    try:
        for path in write:
            _allow_path(rules, path, (_READ | _WRITE) & rights)
        for path in (*read, *map(Path, _SYSTEM)):
            _allow_path(rules, path, _READ & rights)
        if network:
            rule = struct.pack("=QQ", _BIND, port)
            if _system_call(_ADD_RULE, rules, _RULE_PORT, rule, 0):
                raise _refused("landlock_add_rule")
        if ctypes.CDLL(None).prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise _refused("prctl")
        if _system_call(_RESTRICT_SELF, rules, 0):
            raise _refused("landlock_restrict_self")
    finally:
        os.close(rules)
    return version


def _allow_path(rules: int, path: Path, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not on this system: nothing to allow
    try:
        allowed = access if path.is_dir() else access & _FILE_ONLY
        rule = struct.pack("=Qi", allowed, descriptor)
        if _system_call(_ADD_RULE, rules, _RULE_PATH, rule, 0):
            raise _refused(f"landlock_add_rule for {path}")
    finally:
        os.close(descriptor)


def _system_call(number: int, *arguments: bytes | int | None) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))


def _refused(call: str) -> UnavailableError:
    reason = os.strerror(ctypes.get_errno())
    return UnavailableError(
        f"the store cannot be confined: {call}: {reason}",
        hint="with SEALTRAIL_LOCAL_CONFINEMENT=off the writer's SQL can reach files",
    )
