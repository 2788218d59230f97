"""Signatures RS256 of JSON Web Tokens, checked by the package cryptography where it is installed, else by openssl."""
from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .message import Refused, once


def openssl(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False)


def make_key() -> tuple[str, str]:
    """A private key (PKCS #8) and its public key, both PEM."""
    private = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048").stdout
    return private.decode(), openssl("pkey", "-pubout", data=private).stdout.decode()


def decode(text: str) -> bytes:
    """Base64url without padding (RFC 7515)."""
    if "=" in text:
        raise ValueError("padding")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def parse(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, what is signed, signature."""
    try:
        header, claims, signature = token.split(".")
        signed = f"{header}.{claims}".encode()
        values = [json.loads(decode(part), object_pairs_hook=once) for part in (header, claims)]
        return values[0], values[1], signed, decode(signature)
    except ValueError as error:
        raise Refused("invalid_grant", f"Invalid JWT: {error}", bug=True) from None


def is_signed(public_key: str, signed: bytes, signature: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        return is_signed_by_openssl(public_key, signed, signature)
    try:
        load_pem_public_key(public_key.encode()).verify(signature, signed, PKCS1v15(), SHA256())  # type: ignore
    except InvalidSignature:
        return False
    return True


def is_signed_by_openssl(public_key: str, signed: bytes, signature: bytes) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        key, file = Path(directory, "key"), Path(directory, "signature")
        key.write_text(public_key)
        file.write_bytes(signature)
        return openssl("dgst", "-sha256", "-verify", str(key), "-signature", str(file), data=signed).returncode == 0


def sign(private_key: str, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token, as a client makes it; for the tests of the servers."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    with tempfile.TemporaryDirectory() as directory:
        key = Path(directory, "key")
        key.write_text(private_key)
        signature = openssl("dgst", "-sha256", "-sign", str(key), data=".".join(parts).encode()).stdout
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])
