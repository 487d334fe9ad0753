"""HLS in a bucket, from which a CDN takes it (docs/protocol/hls.md, docs/adr/0023-hls-through-a-cdn.md)."""
