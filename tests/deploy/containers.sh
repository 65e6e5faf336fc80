#!/bin/sh
# Runs a command with what the tests of containers need: podman, images of this version and of the commit before (or of
# $PREVIOUS), podman-compose, and a network of their own, in which ports 80 and 443 are free. As root.
# Ends with 75 where this machine can't have that, with 0 where nobody has installed it; what fails otherwise is ours.
set -eu
for program in podman buildah runc unshare ip iptables; do
    if ! command -v $program > /dev/null; then
        echo "$program is not installed, so the containers are not tried: apt-get install podman buildah runc netavark" \
            "aardvark-dns iptables iproute2 debootstrap" >&2
        exit 0
    fi
done
cannot() {
    echo "$1, so the containers are not tried" >&2
    exit 75
}
here=$(cd "$(dirname "$0")" && pwd)
export CONTAINERS_CONF="$here/containers.conf"
"$here/stand_ins.sh" || cannot "the images that deploy/ names can't be made here"
# Builds need the network; what is tried has one of its own.
apart() { unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$@"; }
apart podman run --rm --pull=never --publish 443:8080 python:3.12-slim-bookworm true ||
    cannot "podman can't run a container with a network here"
tools=$PWD/.cache/podman-compose
if ! [ -x "$tools/bin/podman-compose" ]; then
    python3 -m venv "$tools" && "$tools/bin/pip" install --quiet podman-compose==1.6.0 ||
        cannot "podman-compose can't be installed"
fi
export BATCH_RECEIVER_COMPOSE="$tools/bin/podman-compose"
git rev-parse --quiet --verify HEAD > /dev/null || cannot "this is no checkout of git"
# A shallow clone has no commit before: from this version to itself is an upgrade as well.
: "${PREVIOUS:=$(git rev-parse --quiet --verify HEAD^ || echo HEAD)}"
BATCH_RECEIVER_PREVIOUS=$(mktemp -d)
export BATCH_RECEIVER_PREVIOUS
trap 'rm -rf "$BATCH_RECEIVER_PREVIOUS"' EXIT
git archive "$PREVIOUS" | tar -x -C "$BATCH_RECEIVER_PREVIOUS"
for version in previous next; do
    [ $version = next ] && source=. || source=$BATCH_RECEIVER_PREVIOUS
    buildah bud --quiet --layers --isolation chroot --pull-never --network host --tag batch-receiver:$version \
        --file "$source/deploy/Dockerfile" "$source" > /dev/null ||
        { [ $version = next ] && exit 1 || cannot "the image of the version before can't be built here"; }
done
apart "$@"
