"""Names and addresses that are not of the public internet are not asked."""

from __future__ import annotations


async def test_a_name_that_stands_for_a_private_address_is_not_asked():
    from requestor_sdk.c2d._files import Files, FileSource

    files = Files()
    try:
        found = await files.info(FileSource(url="http://localhost:1/x", public_only=True))
        assert not found.valid
    finally:
        await files.close()
