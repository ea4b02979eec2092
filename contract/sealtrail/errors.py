"""Every error that Sealtrail raises on purpose.

    SealtrailError                     anything below; has .message and .hint
    ├── ConfigurationError             a setting, file or permission is wrong
    ├── UnavailableError               a server, file or extra that is needed is not there
    ├── ContractError                  bytes or values that break the contract
    │   ├── MalformedError             not decodable, over a cap, or a schema that is refused
    │   ├── NotCanonicalError          decodable, but not the one canonical encoding
    │   ├── KeyRefusedError            a key that must never be trusted (small order, not canonical,
    ...)
    │   ├── SignatureError             a signature that does not verify
    │   └── ProofError                 a Merkle proof that does not verify
    └── EventError                     a value given to the SDK that cannot become an event

Parsers of hostile bytes raise these and nothing else.
"""

# What taking apart a document (JSON, YAML) raises that is not as it should be, numbers without end
# and nesting without end among it.
MISSHAPEN = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


class SealtrailError(Exception):
    """Base of all.

    Args:
        message: one line: what was wrong and where.
        hint: one line: what to do about it; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(SealtrailError):
    """A setting, a file or a permission is wrong; the user can mend it."""


class UnavailableError(SealtrailError):
    """Something that is needed (server, file, installed extra) is not there."""


class ContractError(SealtrailError):
    """Bytes or values that break the contract of docs/wire-format.md."""


class MalformedError(ContractError):
    """Bytes that cannot be decoded, exceed a cap, or a schema that is refused."""


class NotCanonicalError(ContractError):
    """Bytes that decode, but are not the canonical encoding of what they say."""


class KeyRefusedError(ContractError):
    """A public key that must never be registered or trusted."""


class SignatureError(ContractError):
    """A signature does not verify."""


class ProofError(ContractError):
    """A Merkle inclusion or consistency proof does not verify."""


class EventError(SealtrailError):
    """A value handed to the SDK cannot become an event."""
