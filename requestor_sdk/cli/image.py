"""``requestor-sdk image``: the local store of images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from requestor_sdk.cli import Group
from requestor_sdk.cli._options import completed, image_names

if TYPE_CHECKING:
    from requestor_sdk.ports.runtime import ImageRef
    from requestor_sdk.sandbox import ImageStore


def _store() -> ImageStore:
    from requestor_sdk.sandbox import ImageStore

    return ImageStore()


@contextmanager
def _stored() -> Iterator[ImageStore]:
    """Give the store; tell of a file that cannot be read or written without a traceback."""
    from requestor_sdk.model.errors import ImageNotFound, NotAvailable, RequestorError

    try:
        yield _store()
    except ImageNotFound as error:
        raise ImageNotFound(error.message, hint="requestor-sdk image list") from error
    except RequestorError:
        raise
    except OSError as error:
        raise NotAvailable(
            f"the image store cannot be used: {error}",
            hint="see `requestor-sdk doctor`; REQUESTOR_SDK_HOME moves the data folder",
        ) from error


@click.group(cls=Group)
def command() -> None:
    """Add, build, import, list and remove images.

    They lie in the user's data folder; REQUESTOR_SDK_HOME moves it.
    """


@command.command()
@click.argument("source", metavar="FOLDER|FILE", type=click.Path())
@click.option("--tag", metavar="NAME:TAG", help="The name to give it; by default its own.")
@click.option(
    "--limit-gib",
    type=click.FloatRange(min=0, min_open=True),
    default=32.0,
    show_default=True,
    help="What all its files may have together, those of lower layers included.",
)
def add(source: str, tag: str | None, limit_gib: float) -> None:
    """Store a container image, a folder or an archive, and print its hash.

    A container image is an OCI layout, or what `docker save` writes: a folder, or a tar, plain or
    compressed. No daemon and no registry is needed.
    """
    with _stored() as store:
        image = store.add(source, tag=tag, limit=int(limit_gib * (1 << 30)))
    _added(image)


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--tag", metavar="NAME", help="The name to give it.")
def build(folder: str, tag: str | None) -> None:
    """Store the folder DIR as an image and print its hash.

    DIR is laid over the base, or is a whole root file system.
    """
    with _stored() as store:
        image = store.build(folder, tag=tag)
    _added(image)


@command.command("import")
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--tag", metavar="NAME", help="The name to give it.")
def import_(file: str, tag: str | None) -> None:
    """Store the archive FILE (tar, or a .gvmi squashfs) as an image and print its hash.

    A tar that holds a container image gives that image.
    """
    with _stored() as store:
        image = store.import_file(file, tag=tag)
    _added(image)


def _added(image: ImageRef) -> None:
    named = f", tagged {image.tag}" if image.tag else ""
    click.echo(f"{image.kind} of {_size(image.size)}{named}", err=True)
    for digest in image.digests:
        click.echo(f"known as {digest}", err=True)
    click.echo(image.hash)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(as_json: bool) -> None:
    """List the images."""
    with _stored() as store:
        images = store.list()
    if as_json:
        rows = [
            {
                "hash": i.hash,
                "tag": i.tag,
                "kind": i.kind,
                "size": i.size,
                "path": str(i.path),
                "digests": list(i.digests),
            }
            for i in images
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not images:
        click.echo("no images; add one by: requestor-sdk image build DIR --tag NAME", err=True)
        return
    width = max(3, *(len(image.tag or "") for image in images))
    click.echo(f"{'tag':<{width}}  {'hash':<56}  {'kind':<6}  {'size':>9}")
    for image in images:
        size = _size(image.size)
        click.echo(f"{image.tag or '':<{width}}  {image.hash}  {image.kind:<6}  {size:>9}")


@command.command()
@click.argument("name", metavar="NAME|HASH", shell_complete=completed(image_names))
def rm(name: str) -> None:
    """Remove an image with all its tags."""
    with _stored() as store:
        store.remove(name)
    click.echo(f"removed {name}", err=True)


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024 or unit == "GiB":
            break
    return f"{size:.1f} {unit}"
