"""The relay's own DTLS identity: one self-signed ECDSA P-256 certificate per process."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lac_media.parameters import Fingerprint
from lac_media.proto.dtls import DtlsContext, fingerprint_of

VALIDITY = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class DtlsIdentity:
    """A DTLS context with our certificate, and the certificate's fingerprint for signalling."""

    context: DtlsContext
    fingerprint: Fingerprint


def make_dtls_identity() -> DtlsIdentity:
    """A fresh key and certificate. P-256 because its handshake flight fits one datagram and costs half of RSA-2048.

    Peers check the fingerprint from signalling and nothing else in it (RFC 8122), so the name is arbitrary.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, secrets.token_hex(8))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Peers whose clock is behind ours still accept it.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALIDITY)
        .sign(key, hashes.SHA256())
    )
    return DtlsIdentity(DtlsContext(key, certificate), fingerprint_of(certificate, "sha-256"))
