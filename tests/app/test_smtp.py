"""The mail server's side: encryption, sign-in, and what is told apart when it goes wrong."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.smtp import MailServer, ServerDown, Undelivered
from tests.app.mail_server import DROP, mail_box


def letter() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Hello"
    message.set_content("A line\n.\nand a dot\n")
    return message


async def send(server: MailServer, recipient: str = "bob@cms.example") -> None:
    async with server.session() as session:
        await session.ensure()
        await session.send(letter(), sender="copydesk@cms.example", recipient=recipient)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody trusts yet, and the context of a server that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


def authenticator(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=(data.login, data.password) == (b"copydesk", b"right"), handled=False)


async def test_a_mail_arrives_as_it_was_sent() -> None:
    async with mail_box() as box:
        await send(MailServer("127.0.0.1", box.port, security="none"))
        (mail,) = box.mails
        assert mail["Subject"] == "Hello"
        assert mail.get_content().splitlines() == ["A line", ".", "and a dot"]
        assert box.envelopes[0].mail_from == "copydesk@cms.example"


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_trusted_certificate_is_enough_and_another_is_refused(
    security: Any, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    public, context = certificate
    options: dict[str, Any] = {"tls_context": context, "require_starttls": True} if security == "starttls" else {}
    listening = {"ssl": context} if security == "tls" else {}
    async with mail_box(listening=listening, **options) as box:
        server = MailServer("127.0.0.1", box.port, security=security)
        with pytest.raises(ServerDown, match="certificate"):
            await send(server)
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
        await send(server)
        assert len(box.mails) == 1


async def test_a_server_that_does_not_offer_encryption_gets_nothing() -> None:
    async with mail_box() as box:
        with pytest.raises(ServerDown):
            await send(MailServer("127.0.0.1", box.port, security="starttls"))
        assert box.mails == []


@pytest.mark.parametrize("password", ["right", "wrong"])
async def test_who_may_not_sign_in_has_no_server(password: str) -> None:
    options: dict[str, Any] = {"authenticator": authenticator, "auth_require_tls": False}
    async with mail_box(**options) as box:
        server = MailServer("127.0.0.1", box.port, security="none", username="copydesk", password=password)
        if password == "wrong":
            with pytest.raises(ServerDown, match="535"):
                await send(server)
        else:
            await send(server)
        assert len(box.mails) == (password == "right")


@pytest.mark.parametrize(("answer", "permanent"), [("451 later", False), ("554 never", True), (DROP, False)])
async def test_a_refusal_says_whether_it_is_for_good(answer: str, permanent: bool) -> None:
    async with mail_box() as box:
        box.plan.append(answer)
        with pytest.raises(Undelivered) as caught:
            await send(MailServer("127.0.0.1", box.port, security="none"))
        assert caught.value.permanent is permanent
        assert answer == DROP or answer in caught.value.detail


async def test_a_recipient_that_cannot_be_one_is_refused_for_good() -> None:
    async with mail_box() as box:
        with pytest.raises(Undelivered) as caught:
            await send(MailServer("127.0.0.1", box.port, security="none"), recipient="bób@cms.example")
        assert caught.value.permanent


async def test_nobody_listening_is_a_server_that_is_down() -> None:
    async with mail_box() as box:
        port = box.port
    with pytest.raises(ServerDown):
        await send(MailServer("127.0.0.1", port, security="none"))
