#!/bin/sh
# Renew the locked requirements. The locks carry versions and hashes, no download addresses.
set -eu
python=$1
cd "$(dirname "$0")/.."
compile() {
    output=$1
    shift
    "$python" -m uv pip compile --quiet --no-emit-index-url --generate-hashes --no-header --no-annotate \
        --python-version 3.11 "$@" --output-file "$output"
}
compile requirements/base.txt pyproject.toml
compile requirements/build.txt --constraint requirements/base.txt --group build
compile requirements/dev.txt pyproject.toml --constraint requirements/build.txt --group dev
