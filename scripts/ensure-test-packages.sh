#!/bin/sh
# The browser tests drive Debian's Chromium. As root it is installed if it is missing; otherwise say what is.
set -eu
packages=""
command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
[ -z "$packages" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need these Debian packages; install them with: sudo apt-get install$packages" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $packages >/dev/null
