"""Public keys: which are refused (A9), which signatures hold (A10), and DSSE."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from tests.contract import world as w

from sealtrail import dsse
from sealtrail.errors import KeyRefusedError, SealtrailError, SignatureError
from sealtrail.keys import Algorithm, PublicKey, public_key

VECTORS = Path(__file__).parents[1] / "vectors"
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


def wycheproof() -> list[Any]:
    groups = json.loads((VECTORS / "wycheproof/ed25519_test.json").read_text())["testGroups"]
    return [
        pytest.param(group["publicKey"]["pk"], test, id=f"tc{test['tcId']}")
        for group in groups
        for test in group["tests"]
    ]


@pytest.mark.parametrize(("pk", "test"), wycheproof())
def test_wycheproof(pk: str, test: dict[str, Any]) -> None:
    key = PublicKey.from_raw(bytes.fromhex(pk))
    signature, message = bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"])
    if test["result"] == "valid":
        key.verify(signature, message)
    else:
        with pytest.raises(SignatureError):
            key.verify(signature, message)


def double(y: int) -> int:
    """y of twice a point of edwards25519: all that is needed to find small orders."""
    d = -121665 * pow(121666, -1, P) % P
    y2 = y * y % P
    x2 = (y2 - 1) * pow(d * y2 + 1, -1, P) % P
    return (y2 + x2) * pow(1 - d * x2 * y2, -1, P) % P


def test_the_refused_points_are_those_of_small_order() -> None:
    from sealtrail import keys

    for y in keys._SMALL_ORDER_Y:
        assert double(double(double(y))) == 1
    # 1 and -1 have one x each, the others two: eight points in all.
    assert len(keys._SMALL_ORDER_Y) == 5


def weak_encodings() -> list[bytes]:
    from sealtrail import keys

    found = []
    for y in sorted(keys._SMALL_ORDER_Y):
        for encoded in (y, y + P):
            if encoded < 2**255:
                found += [
                    encoded.to_bytes(32, "little"),
                    (encoded | 1 << 255).to_bytes(32, "little"),
                ]
    return found


@pytest.mark.parametrize("raw", weak_encodings(), ids=bytes.hex)
def test_a9_small_order_keys_are_refused_in_every_encoding(raw: bytes) -> None:
    with pytest.raises(KeyRefusedError):
        PublicKey.from_raw(raw)
    der = bytes.fromhex("302a300506032b6570032100") + raw
    with pytest.raises(KeyRefusedError):
        PublicKey.from_der(der)


def test_a9_there_are_fourteen_weak_encodings() -> None:
    assert len(weak_encodings()) == 14


@pytest.mark.parametrize("y", range(P, 2**255))
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_a9_non_canonical_keys_are_refused(y: int, sign: int) -> None:
    with pytest.raises(KeyRefusedError, match="canonical"):
        PublicKey.from_raw((y | sign).to_bytes(32, "little"))


def on_curve(y: int) -> bool:
    d = -121665 * pow(121666, -1, P) % P
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    return pow(x2, (P - 1) // 2, P) == 1


@pytest.mark.parametrize("y", [y for y in range(2, 40) if not on_curve(y)])
def test_what_is_no_point_of_the_curve_is_refused(y: int) -> None:
    with pytest.raises(KeyRefusedError, match="no point"):
        PublicKey.from_raw(y.to_bytes(32, "little"))


@pytest.mark.parametrize("y", [y for y in range(2, 40) if on_curve(y)])
def test_points_of_the_curve_are_taken(y: int) -> None:
    assert PublicKey.from_raw(y.to_bytes(32, "little")).algorithm is Algorithm.ED25519


def test_a10_a_malleated_signature_does_not_hold() -> None:
    message = b"message"
    signature = w.ORDERS.sign(message)
    s = int.from_bytes(signature[32:], "little") + L
    with pytest.raises(SignatureError):
        w.ORDERS.public_key.verify(signature[:32] + s.to_bytes(32, "little"), message)


@pytest.mark.parametrize("key", [w.ORDERS, w.ORDERS_PQ])
def test_keys_verify_what_they_signed_and_nothing_else(key: w.TestKey) -> None:
    signature = key.sign(b"message")
    key.public_key.verify(signature, b"message")
    again = PublicKey.from_der(key.public_key.der)
    assert again == key.public_key
    assert PublicKey.from_raw(again.raw, again.algorithm) == again
    assert len({again, key.public_key}) == 1
    for bad in (signature[:-1], signature + b"\x00", b"", bytes(len(signature))):
        with pytest.raises(SignatureError):
            key.public_key.verify(bad, b"message")
    with pytest.raises(SignatureError):
        key.public_key.verify(signature, b"Message")


def test_a_fingerprint_covers_the_algorithm() -> None:
    assert w.ORDERS.public_key.fingerprint.hex()[:16] in repr(w.ORDERS.public_key)
    assert w.ORDERS.public_key != w.ORDERS_PQ.public_key
    assert w.ORDERS.public_key != "key"
    assert public_key(w.ORDERS.public_key.der) is public_key(w.ORDERS.public_key.der)


@pytest.mark.parametrize(
    ("raw", "algorithm"),
    [
        (b"", Algorithm.ED25519),
        (bytes(31), Algorithm.ED25519),
        (bytes(33), Algorithm.ED25519),
        (bytes(32), Algorithm.ML_DSA_44),
        (bytes(1311), Algorithm.ML_DSA_44),
    ],
)
def test_raw_keys_of_another_length_are_refused(raw: bytes, algorithm: Algorithm) -> None:
    with pytest.raises(KeyRefusedError):
        PublicKey.from_raw(raw, algorithm)


def test_a8_other_algorithms_and_encodings_are_refused() -> None:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    good = w.ORDERS.public_key.der
    others = [
        ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*form),
        x25519.X25519PrivateKey.generate().public_key().public_bytes(*form),
        b"",
        b"\x30",
        good[:-1],
        good + b"\x00",
        b"\x30\x81\x2a" + good[2:],
        w.ORDERS_PQ.public_key.der[:-1],
    ]
    for der in others:
        with pytest.raises(KeyRefusedError):
            PublicKey.from_der(der)


def test_dsse_pre_authentication_encoding() -> None:
    # The example of protocol.md.
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a14_every_signer_once_and_in_order() -> None:
    body, keys = b"body", [w.ORDERS.public_key, w.ORDERS_PQ.public_key]
    good = dsse.sign(dsse.BATCH, body, [w.ORDERS, w.ORDERS_PQ])
    dsse.verify(dsse.BATCH, body, good, keys)
    bad: list[tuple[str, bytes, list[bytes], list[PublicKey]]] = [
        (dsse.BATCH, body, good[:1], keys),
        (dsse.BATCH, body, good[::-1], keys),
        (dsse.BATCH, body, [], []),
        (dsse.BATCH, body, good[:1] * 2, keys[:1] * 2),
        (dsse.HEARTBEAT, body, good, keys),
        (dsse.BATCH, b"bodY", good, keys),
        (dsse.BATCH, body, [good[0], w.ORDERS_PQ.sign(b"")], keys),
    ]
    for case in bad:
        with pytest.raises(SignatureError):
            dsse.verify(*case)


def test_the_error_tree_is_the_one_drawn() -> None:
    from sealtrail import errors

    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, Exception):
            assert issubclass(error, SealtrailError)
            assert error.__name__ in (errors.__doc__ or "")
            assert error("message", hint="hint").hint == "hint"
