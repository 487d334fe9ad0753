"""What the start says about a bucket: nothing, one clear line, or that it goes on without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lac.config import Settings, load_settings
from lac.errors import ConfigError
from lac.recordings.afterwards import open_places
from tests.domain.conftest import SECRETS
from tests.rclone import Rclone, rclone_server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    with rclone_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(SECRETS, data_dir=tmp_path)


async def test_a_bucket_that_takes_us(rclone: Rclone, settings: Settings) -> None:
    async with open_places(replace(settings, s3=rclone.settings())) as places:
        assert places.bucket is not None
    assert rclone.objects() == []


async def test_a_wrong_secret_stops_the_start(rclone: Rclone, settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_places(replace(settings, s3=rclone.settings(secret="not this one"))):
            pass
    assert caught.value.detail.startswith("S3_BUCKET_NAME: bucket shows at ")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.detail
    assert "not this one" not in caught.value.detail
    assert "\n" not in caught.value.detail


async def test_a_bucket_that_is_away_does_not(
    rclone: Rclone, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_places(replace(settings, s3=rclone.settings(port=1))) as places:
        assert places.bucket is not None
    assert "the bucket is away" in capsys.readouterr().out


async def test_no_bucket(settings: Settings) -> None:
    async with open_places(settings) as places:
        assert places.bucket is None
