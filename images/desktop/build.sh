#!/bin/sh
# Builds a desktop image for Docker from Debian packages: no registry and no Dockerfile needed.
# Needs root, debootstrap and the docker command; takes some minutes and 1 GB in the temporary directory.
set -eu

usage() {
  cat <<USAGE
usage: build.sh [--name IMAGE] [--suite SUITE] [--mirror URL] [--packages LIST] [--debs DIR] [--label KEY=VALUE]

  --name IMAGE       name of the image                     [default: streamspace/desktop:latest]
  --suite SUITE      Debian release                        [default: bookworm]
  --mirror URL       Debian archive                        [default: the one this system uses]
  --packages LIST    more packages, with commas            [default: none]
  --debs DIR         keeps downloaded packages here        [default: nowhere]
  --label KEY=VALUE  a label of the image                  [default: none]
USAGE
}

name=streamspace/desktop:latest
suite=bookworm
mirror=
more=
debs=
label=
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=$2 ;;
    --suite) suite=$2 ;;
    --mirror) mirror=$2 ;;
    --packages) more=,$2 ;;
    --debs) debs=$2 ;;
    --label) label=$2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "build.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
  shift 2
done

# On systems that are not Debian, or have no apt, the archive that serves everybody.
if [ -z "$mirror" ]; then
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    grep -m 1 -E '^https?://.*/debian/?$' || true)
  mirror=${mirror:-http://deb.debian.org/debian}
fi

for program in debootstrap docker; do
  command -v "$program" >/dev/null || { echo "build.sh: $program is not installed" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "build.sh: debootstrap needs root" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d "${TMPDIR:-/tmp}/streamspace-desktop.XXXXXX")
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM

echo "==> installing Debian $suite and a desktop from $mirror into $root"
if [ -n "$debs" ]; then
  mkdir -p "$debs"
  debs=$(cd "$debs" && pwd)
fi
debootstrap --variant=minbase ${debs:+--cache-dir="$debs"} \
  --include="tigervnc-standalone-server,openbox,xterm,fonts-dejavu-core,x11-utils$more" \
  "$suite" "$root" "$mirror"

echo "==> leaving out what nobody reads in a session"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* \
  "$root"/usr/share/info/* "$root"/var/log/*
find "$root/usr/share/locale" -mindepth 1 -maxdepth 1 ! -name 'en*' -exec rm -rf {} +

# The user of the session. Their home is what the session mounts at /config: a new home takes over its owner.
chroot "$root" useradd --uid 1000 --home-dir /config --create-home --shell /bin/bash user
install -m 755 "$here/session-entry" "$root/usr/local/bin/session-entry"

echo "==> importing $name"
tar -C "$root" --numeric-owner -c . | docker import \
  -c 'CMD ["/usr/local/bin/session-entry"]' -c 'EXPOSE 5900' -c 'USER 1000:1000' -c 'WORKDIR /config' \
  -c 'ENV HOME=/config' -c 'ENV LANG=C.UTF-8' ${label:+-c "LABEL $label"} \
  - "$name"
docker image inspect --format '    {{index .RepoTags 0}}: {{.Size}} bytes' "$name"
