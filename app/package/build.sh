#!/bin/sh
# Makes peft-studio-VERSION-linux-ARCH.tar.gz and peft-studio_VERSION_ARCH.deb.
#
#   app/package/build.sh [BINARY] [FOLDER]
#
# BINARY: the program; without it, it is built. FOLDER: where the packages go; without it, target/package.
# Needs tar; dpkg-deb for the .deb, which is left out where there is none.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
binary=${1:-}
out=${2:-$root/target/package}
if [ -z "$binary" ]; then
    cargo build --manifest-path "$root/Cargo.toml" --release --locked -p peft_studio
    binary=${CARGO_TARGET_DIR:-$root/target}/release/peft-studio
fi
version=$("$binary" --version | sed 's/.* //')
machine=$(uname -m)
mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# place FOLDER MODE FILE NAME: every file with the rights it is to have.
place() { install -D -m "$2" "$3" "$1/$4"; }

# What both packages hold, below a prefix.
fill() {
    place "$1" 755 "$binary" bin/peft-studio
    place "$1" 644 "$root/app/package/peft-studio.desktop" share/applications/peft-studio.desktop
    place "$1" 644 "$root/icons/peft-studio.svg" share/icons/hicolor/scalable/apps/peft-studio.svg
    for licence in LICENSE-MIT LICENSE-APACHE; do
        place "$1" 644 "$root/$licence" "share/doc/peft-studio/$licence"
    done
    for licence in "$root"/app/fonts/*-LICENSE.txt; do
        place "$1" 644 "$licence" "share/doc/peft-studio/fonts/${licence##*/}"
    done
    place "$1" 644 "$root/README.md" share/doc/peft-studio/README.md
}

name=peft-studio-$version-linux-$machine
fill "$stage/$name"
tar -C "$stage" --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz" "$name"
echo "$out/$name.tar.gz"

command -v dpkg-deb >/dev/null || { echo "no dpkg-deb here: no .deb is made" >&2; exit 0; }
case $machine in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$machine ;;
esac
deb=$stage/deb
fill "$deb/usr"
cat "$root/LICENSE-MIT" > "$deb/usr/share/doc/peft-studio/copyright"
mkdir -p "$deb/DEBIAN"
# The command line needs libc alone; libraries of windows are loaded when one is opened.
cat > "$deb/DEBIAN/control" <<CONTROL
Package: peft-studio
Version: $version
Architecture: $architecture
Maintainer: PEFT Studio <noreply@invalid>
Section: science
Priority: optional
Installed-Size: $(du -sk "$deb/usr" | cut -f1)
Depends: libc6, libgcc-s1
Recommends: libx11-6, libx11-xcb1, libxcursor1, libxi6, libxkbcommon-x11-0, libgl1, libegl1
Suggests: fonts-noto-cjk
Description: Teach language models from your own examples
 PEFT Studio fine-tunes language models on this computer: a window and a
 command line, without Python and without anything that is downloaded behind
 your back.
CONTROL
package=$out/peft-studio_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$deb" "$package" >/dev/null
echo "$package"
