"""``requestor-sdk manifest``: computation manifests, made, signed and checked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from requestor_sdk.cli import Group
from requestor_sdk.cli._options import FILE

if TYPE_CHECKING:
    from requestor_sdk.service.manifest import Manifest, SignedManifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text)
        return
    try:
        output.write_text(text + "\n")
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from None


def _load(path: Path) -> SignedManifest:
    """Read what ``create`` or ``sign`` wrote: a manifest, or one with its signature."""
    from requestor_sdk.model.errors import ManifestInvalid
    from requestor_sdk.service.manifest import Manifest, SignedManifest

    data = _read(path)
    try:
        return SignedManifest.from_json(data)
    except ManifestInvalid:
        return Manifest.from_json(data).unsigned()


@click.group(cls=Group)
def command() -> None:
    """Make, sign and check computation manifests.

    A provider of Golem lets a payload reach the internet where its manifest says where to, and is
    signed by somebody whom the provider trusts.
    """


@command.command()
@click.option("--image", required=True, metavar="HASH", help="sha3-224 of the image.")
@click.option("--image-url", multiple=True, metavar="URL", help="Where it can be fetched.")
@click.option("--outbound", multiple=True, metavar="URL", help="Where it may connect to.")
@click.option("--unrestricted", is_flag=True, help="Let it connect to everything.")
@click.option(
    "--allow",
    multiple=True,
    metavar="PATTERN",
    help="A command that it may run, e.g. 'run /bin/date.*'; all by default.",
)
@click.option("--name", default="payload", show_default=True, help="What it is called.")
@click.option(
    "--days",
    default=365,
    show_default=True,
    type=click.IntRange(1, 36500),
    help="For how long it is valid.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it to a file.")
def create(
    *,
    image: str,
    image_url: tuple[str, ...],
    outbound: tuple[str, ...],
    unrestricted: bool,
    allow: tuple[str, ...],
    name: str,
    days: int,
    output: Path | None,
) -> None:
    """Print a manifest as JSON."""
    from requestor_sdk.service.manifest import Manifest

    now = datetime.now(UTC).replace(microsecond=0)
    manifest = Manifest.build(
        image=image,
        image_urls=image_url,
        outbound=outbound,
        unrestricted=unrestricted,
        commands=allow or ("run .*", "transfer .*"),
        name=name,
        created_at=now,
        expires_at=now + timedelta(days=days),
    )
    _write(manifest.to_json(), output)


@command.command()
@click.argument("file", type=FILE)
@click.option("--key", required=True, type=FILE, help="The private key, PEM.")
@click.option("--cert", required=True, type=FILE, help="Its certificate, PEM.")
@click.option("--password", is_flag=True, help="Ask for the password of the key.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it to a file.")
def sign(file: Path, key: Path, cert: Path, password: bool, output: Path | None) -> None:
    """Sign the manifest FILE and print the properties of a demand that carry it, as JSON."""
    secret = click.prompt("password", hide_input=True, err=True) if password else None
    signed = _load(file).sign(
        _read(key), _read(cert), password=secret.encode() if secret is not None else None
    )
    signed.check()
    _write(signed.to_json(), output)


@command.command()
@click.argument("file", type=FILE)
@click.option(
    "--trust",
    multiple=True,
    type=FILE,
    help="A certificate that the provider trusts, PEM; without one, any signature will do.",
)
def check(file: Path, trust: tuple[Path, ...]) -> None:
    """Check the manifest FILE, signed or not, as a provider does."""
    signed = _load(file)
    manifest = signed.check(trusted=[_read(path) for path in trust])
    for line in _told(manifest, signed):
        click.echo(line)
    if signed.signature is not None and not trust:
        click.echo("Whether a provider trusts the signer was not asked: --trust.", err=True)


def _told(manifest: Manifest, signed: SignedManifest) -> list[str]:
    out, script = manifest.outbound, manifest.script
    where = "nowhere"
    if out is not None and out.asked_for:
        where = "everywhere" if out.unrestricted else ", ".join(out.urls)
    commands = "all" if script is None else ", ".join(script.commands) or "none"
    return [
        f"image     {manifest.payload[0].hash}",
        f"connects  {where}",
        f"commands  {commands}",
        f"expires   {manifest.expires_at.isoformat()}",
        f"signed    {'no' if signed.signature is None else 'yes, and the signature holds'}",
    ]
