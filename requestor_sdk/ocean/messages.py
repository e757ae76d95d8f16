"""What an Ocean client signs, for each generation of servers, and who signed it.

A text is hashed with keccak; the 32 bytes of the hash are signed as an EIP-191 message. A node of
today, and its JavaScript client, cut zero bytes off the hash's beginning before that: so a signer
avoids such hashes (``signable``), and a server tries both forms (``signer_of``). Keys, signatures
and tokens belong in no message of an error and in no log.
"""

from __future__ import annotations

import binascii
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from requestor_sdk.model.errors import UsageError
from requestor_sdk.signing import keccak, recover

if TYPE_CHECKING:
    from requestor_sdk.ports.basics import Signer

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


class Generation(StrEnum):
    """Which family of servers one is.

    ``classic`` is the Provider of API v4, ``node`` is ocean-node from 1.0 on, ``upcoming`` is its
    next major version, whose auth tokens are signed with the node's peer id.
    """

    classic = "classic"
    node = "node"
    upcoming = "upcoming"


class Command(StrEnum):
    """The signed calls of a node, by the words that it puts into the message."""

    start = "startCompute"
    free_start = "freeStartCompute"
    stop = "stopCompute"
    result = "getComputeResult"
    logs = "getComputeStreamableLogs"
    create_token = "createAuthToken"  # noqa: S105 - a command's name
    delete_token = "invalidateAuthToken"  # noqa: S105 - a command's name


def start_text(consumer: str, did: str, nonce: str) -> str:
    """Return what is signed to start a job at a classic Provider."""
    return f"{consumer}{did}{nonce}"


def job_text(consumer: str, job_id: str, did: str, nonce: str) -> str:
    """Return what is signed to stop or delete a job at a classic Provider; absent parts are ''."""
    return f"{consumer}{job_id}{did}{nonce}"


def result_text(consumer: str, job_id: str, index: str, nonce: str) -> str:
    """Return what is signed to get a result of a classic Provider."""
    return f"{consumer}{job_id}{index}{nonce}"


def token_text(address: str, nonce: str) -> str:
    """Return what is signed to make or delete an auth token of a classic Provider."""
    return f"{address}{nonce}"


def command_text(consumer: str, nonce: str, command: Command | str, peer_id: str = "") -> str:
    """Return what is signed for any call of a node; tokens of an upcoming one add its peer id."""
    return f"{consumer}{nonce}{command}{peer_id}"


def text_hash(text: str) -> bytes:
    """Return the 32 bytes that are signed for a text."""
    return keccak(text.encode())


def signable(text: str) -> bool:
    """Tell whether all servers take the signature of it: its hash does not begin with zero."""
    return text_hash(text)[0] != 0


def signature_of(signer: Signer, text: str) -> str:
    """Return the signature of a text as it is sent: ``0x`` and 130 hex digits."""
    return "0x" + signer.sign(text_hash(text)).hex()


def signer_of(text: str, signature: str) -> str | None:
    """Return the address that signed a text, lower case; ``None`` where it is no signature.

    Of the forms that clients make the 32 bytes' one is meant. ``signed_by`` tries them all.
    """
    made = _bytes(signature)
    return None if made is None else recover(text_hash(text), made)


def signed_by(address: str, text: str, signature: str) -> bool:
    """Tell whether an address signed a text, in any of the forms that clients make.

    These are: the hash's 32 bytes; these without their leading zero bytes; the 66 characters of
    the hash as hex.
    """
    made = _bytes(signature)
    if made is None:
        return False
    digest = text_hash(text)
    forms = [digest]
    if digest[0] == 0:
        forms.append(digest.lstrip(b"\0"))
    forms.append(f"0x{digest.hex()}".encode())
    wanted = address.lower()
    return any(recover(form, made) == wanted for form in forms)


def _bytes(signature: str) -> bytes | None:
    if len(signature) != 132 or signature[:2] not in ("0x", "0X"):
        return None
    try:
        return binascii.unhexlify(signature[2:])
    except ValueError:
        return None


def is_address(text: str) -> bool:
    """Tell whether a text is ``0x`` and 40 hex digits."""
    return _ADDRESS.fullmatch(text) is not None


def checksummed(address: str) -> str:
    """Return an address in mixed case, as EIP-55 has it: the form that every server takes.

    Raises:
        UsageError: It is no address.
    """
    if not is_address(address):
        raise UsageError(f"{address!r} is no Ethereum address: that is 0x and 40 hex digits")
    digits = address[2:].lower()
    marks = keccak(digits.encode()).hex()
    cased = (
        digit.upper() if int(mark, 16) >= 8 else digit
        for digit, mark in zip(digits, marks, strict=False)
    )
    return "0x" + "".join(cased)
