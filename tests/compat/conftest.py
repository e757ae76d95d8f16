from __future__ import annotations

from pathlib import Path

import pytest

IMAGE = Path(__file__).parents[2] / "examples" / "02_simple_service" / "image"
SEED_HASH = "8b11df59f84358d47fc6776d0bb7290b0054c15ded2d6f54cf634488"


@pytest.fixture
def seed_image(tmp_path, monkeypatch):
    """The example's image, under the hash that the handbook's program names, in a fresh store."""
    from requestor_sdk.sandbox import ImageStore

    monkeypatch.setenv("REQUESTOR_SDK_HOME", str(tmp_path))
    return ImageStore().build(IMAGE, tag=SEED_HASH)
