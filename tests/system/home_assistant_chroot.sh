#!/bin/sh
# Set up a Home Assistant in a Debian chroot whose Python is new enough, and print how tests start it. Needs root,
# mmdebstrap and 1.5 GB.
#
#     home_assistant_chroot.sh FOLDER [OPTION OF MMDEBSTRAP ...]
set -eu
folder=$(realpath -m "$1")
shift
certificates=/etc/ssl/certs/ca-certificates.crt
if [ ! -e "$folder/usr/bin/python3" ]; then
    mmdebstrap --variant=minbase "$@" \
        --include=python3,python3-venv,python3-dev,g++,libc6-dev,ca-certificates,ffmpeg,libturbojpeg0 forky "$folder" >&2
    cp -L /etc/resolv.conf /etc/hosts "$folder/etc/"
    cp -L "$certificates" "$folder$certificates" # the host may trust a proxy
fi
if [ ! -e "$folder/ha/bin/hass" ]; then
    chroot "$folder" python3 -m venv /ha
    chroot "$folder" /ha/bin/pip install -q homeassistant >&2
fi
# Tests lay its configuration under /tmp; it installs the packages of integrations itself.
for each in /tmp /dev /proc; do
    mountpoint -q "$folder$each" || mount --bind "$each" "$folder$each"
done
echo "HASS_COMMAND='chroot $folder env HOME=/root SSL_CERT_FILE=$certificates /ha/bin/hass'"
