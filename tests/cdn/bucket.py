"""A bucket in memory that is watched: at no moment does a playlist in it name what is not there."""

from __future__ import annotations

from collections.abc import Collection

from lac.cdn.pusher import PREFIX
from tests.fakes.store import MemoryStore
from tests.hls.playlists import ReadPlaylist, read

SHOW = "show1"


class WatchedStore(MemoryStore):
    """Players that read the playlist at this very moment find everything in it."""

    def __init__(self) -> None:
        super().__init__()
        self.playlists_seen = 0
        #: Of a show that is over.
        self.last_msn: int | None = None

    def on_put(self, key: str) -> None:
        self.look()

    async def delete(self, keys: Collection[str]) -> None:
        """One by one, in an order that nobody can count on."""

        def deed() -> None:
            for key in sorted(keys, key=lambda key: (key.endswith(".m3u8"), key)):
                self.objects.pop(key, None)
                self.look()

        await self._do("delete", deed)

    def look(self) -> None:
        for key in self.objects:
            folder, _, name = key.rpartition("/")
            if name == "index.m3u8":
                named = [line for line in self.objects[key].decode().splitlines() if line and not line.startswith("#")]
            elif name.endswith(".m3u8"):
                playlist = read(self.objects[key])
                named = [playlist.map_uri or "", *(segment.uri or "" for segment in playlist.segments)]
                self.playlists_seen += 1
                if playlist.ended and self.last_msn is not None:
                    assert playlist.segments[-1].msn == self.last_msn, "finished, and not all of it"
            else:
                continue
            for uri in named:
                assert f"{folder}/{uri}" in self.objects, f"{key} names {uri}, which is not there"

    def names(self) -> list[str]:
        """Of the show's objects, below its prefix."""
        prefix = f"{PREFIX}{SHOW}/"
        return sorted(key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))

    def playlist(self, name: str = "high.m3u8") -> ReadPlaylist:
        return read(self.objects[f"{PREFIX}{SHOW}/{name}"])
