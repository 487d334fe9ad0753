#!/bin/sh
# The end-to-end tests drive Debian's Chromium, Firefox, ffmpeg, mpv, curl, ezstream and oggfwd. As root they are
# installed if they are missing; otherwise say what is.
set -eu
packages=""
for program in chromium firefox-esr ffmpeg mpv curl ezstream oggfwd; do
    command -v "$program" >/dev/null 2>&1 || packages="$packages $program"
done
# GStreamer as a player: its elements, and the bindings of Debian's own Python.
bindings='import gi; gi.require_version("GstWebRTC", "1.0"); gi.require_version("GstSdp", "1.0")'
/usr/bin/python3 -c "$bindings" 2>/dev/null || packages="$packages python3-gi gir1.2-gst-plugins-bad-1.0"
for element in nice:nice base:opus good:rtp bad:webrtc; do
    plugin="gstreamer-1.0/libgst${element#*:}.so"
    ls /usr/lib/*/"$plugin" >/dev/null 2>&1 && continue
    case $element in
    nice:*) packages="$packages gstreamer1.0-nice" ;;
    *) packages="$packages gstreamer1.0-plugins-${element%:*}" ;;
    esac
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
