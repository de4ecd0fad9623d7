#!/bin/sh
# Installs the .deb in a clean Debian root and starts the program there: the command line, and the window on a virtual screen.
#
#   app/package/trial.sh PACKAGE.deb [PICTURE.png]
#
# Needs root, a network for the Debian mirror, and debootstrap, xvfb and imagemagick of the system it runs on.
set -eu

deb=$1
picture=${2:-}
work=$(mktemp -d)
root=$work/root
screen=
trap '[ -z "$screen" ] || kill "$screen"; umount "$root/proc" 2>/dev/null || true; rm -rf "$work"' EXIT

debootstrap --variant=minbase --include=ca-certificates stable "$root" >"$work/debootstrap.log" 2>&1 || {
    tail -n 20 "$work/debootstrap.log" >&2
    exit 1
}
mount -t proc proc "$root/proc"
cp "$deb" "$root/package.deb"
# As a person would: apt takes what the package needs and what it recommends.
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq /package.deb >/dev/null 2>"$work/apt.log" || {
    tail -n 20 "$work/apt.log" >&2
    exit 1
}
chroot "$root" peft-studio --version
chroot "$root" peft-studio hardware --data-dir studio >/dev/null
# Without a display it explains itself instead of breaking.
if chroot "$root" env -u DISPLAY -u WAYLAND_DISPLAY peft-studio >"$work/none.txt" 2>&1; then :; fi
grep -q "peft-studio" "$work/none.txt"
for file in usr/share/applications/peft-studio.desktop usr/share/icons/hicolor/scalable/apps/peft-studio.svg \
    usr/share/doc/peft-studio/copyright; do
    test -s "$root/$file"
done

mkdir -p "$root/tmp/.X11-unix"
mkfifo "$work/display"
Xvfb -displayfd 3 -screen 0 1280x800x24 -listen tcp -ac 3>"$work/display" 2>/dev/null &
screen=$!
read -r number <"$work/display"
chroot "$root" env DISPLAY="127.0.0.1:$number" LIBGL_ALWAYS_SOFTWARE=1 PEFT_STUDIO_MEASURE=3 \
    peft-studio --data-dir studio >"$work/window.txt" 2>&1 &
window=$!
if [ -n "$picture" ]; then
    sleep 5
    import -display ":$number" -window root "$picture"
fi
wait "$window"
grep "first frame" "$work/window.txt"
echo "installed, started and closed in a clean Debian root"
