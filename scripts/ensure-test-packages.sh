#!/bin/sh
# The end-to-end tests drive Debian's Chromium, ffmpeg, mpv and curl. As root they are installed if they are missing;
# otherwise say what is.
set -eu
packages=""
for program in chromium ffmpeg mpv curl; do
    command -v "$program" >/dev/null 2>&1 || packages="$packages $program"
done
[ -z "$packages" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need these Debian packages; install them with: sudo apt-get install$packages" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -o Acquire::Retries=3 update -qq
# shellcheck disable=SC2086
apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends $packages >/dev/null
