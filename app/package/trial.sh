#!/bin/sh
# Installs both packages in a clean Debian root and starts the program there: the command line, the window on a virtual
# screen, and what is said where there is no screen or no library for windows.
#
#   app/package/trial.sh [--binary BINARY] [FOLDER]
#
# BINARY: the program to be packed; without it, it is built for release. FOLDER: where packages and pictures go; without
# it, target/package. Needs root, a network for the Debian mirror, and debootstrap, xvfb and imagemagick of the system it
# runs on.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
binary=
if [ "${1:-}" = --binary ]; then
    binary=$2
    shift 2
fi
out=${1:-$here/../../target/package}
work=$(mktemp -d)
root=$work/root
screen=
end() {
    [ -z "$screen" ] || kill "$screen"
    umount "$root/proc" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT

"$here/build.sh" "$binary" "$out" >"$work/built"
tar=$(grep 'tar.gz$' "$work/built")
deb=$(grep 'deb$' "$work/built")

# Quietly, with the end of what was said where it fails.
quietly() {
    "$@" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        exit 1
    }
}
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }

quietly debootstrap --variant=minbase --include=ca-certificates stable "$root"
mount -t proc proc "$root/proc"
mkdir -p "$root/tmp/.X11-unix" "$root/opt/studio"
mkfifo "$work/display"
Xvfb -displayfd 3 -screen 0 1280x800x24 -listen tcp -ac 3>"$work/display" 2>/dev/null &
screen=$!
read -r number <"$work/display"

# The archive, in a system that has nothing: the command line works, and a window that cannot be opened names the packages.
tar -C "$root/opt/studio" --strip-components=1 -xzf "$tar"
inside /opt/studio/bin/peft-studio --version
inside /opt/studio/bin/peft-studio hardware --data-dir /opt/home >/dev/null
# It ends by itself, and says this.
explains() {
    said=$1
    shift
    timeout 60 chroot "$root" "$@" >"$work/said" 2>&1 || [ $? -ne 124 ]
    grep -q "$said" "$work/said" || {
        cat "$work/said" >&2
        exit 1
    }
}
explains "apt-get install" env DISPLAY="127.0.0.1:$number" /opt/studio/bin/peft-studio --data-dir /opt/home
explains "peft-studio --help" env -u DISPLAY -u WAYLAND_DISPLAY /opt/studio/bin/peft-studio --data-dir /opt/home
echo "the archive works on the command line and names what windows need"

# Open a window inside and keep a picture of it; what it measured of itself is printed.
window() {
    inside env DISPLAY="127.0.0.1:$number" LIBGL_ALWAYS_SOFTWARE=1 PEFT_STUDIO_MEASURE=3 \
        "$1" --data-dir /opt/home >"$work/window" 2>&1 &
    window=$!
    tries=0
    # An empty screen has one colour.
    while [ $tries -lt 120 ] && kill -0 $window 2>/dev/null; do
        import -display ":$number" -window root "$2"
        [ "$(identify -format %k "$2")" -lt 100 ] || break
        sleep 0.5
        tries=$((tries + 1))
    done
    wait $window
    [ "$(identify -format %k "$2")" -ge 100 ]
    grep "first frame" "$work/window"
}

# The package, as a person would: apt takes what it needs and what it recommends.
cp "$deb" "$root/package.deb"
quietly inside apt-get install -y -qq /package.deb
inside peft-studio --version
for file in usr/share/applications/peft-studio.desktop usr/share/icons/hicolor/scalable/apps/peft-studio.svg \
    usr/share/doc/peft-studio/copyright; do
    test -s "$root/$file"
done
window peft-studio "$out/installed.png"
window /opt/studio/bin/peft-studio "$out/unpacked.png"
inside peft-studio --data-dir /opt/home quickstart --json >/dev/null
quietly inside apt-get remove -y -qq peft-studio
test ! -e "$root/usr/bin/peft-studio"
echo "installed, started, closed, trained with and removed in a clean Debian root"
