#!/bin/sh
# Prepare a Raspberry Pi (64-bit Raspberry Pi OS or Debian): compressed swap, OpenBLAS, llama.cpp built for this board.
# `sh setup_pi.sh --dry-run` shows every command and runs none. What is already done is not done again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/pi.env"

run() {
    echo "+ $*"
    [ "$dry" = yes ] || "$@"
}

dry=no
[ "${1:-}" = --dry-run ] && dry=yes
sudo=sudo
[ "$(id -u)" = 0 ] && sudo=

machine=$(uname -m)
if [ "$machine" != aarch64 ] && [ "$dry" = no ]; then
    echo "This is $machine. llama.cpp needs a 64-bit system to be fast; install the 64-bit Raspberry Pi OS." >&2
    exit 1
fi

run $sudo apt-get update
run $sudo apt-get install -y build-essential cmake git pkg-config libopenblas-dev systemd-zram-generator

# Swap in compressed memory. Weights are mapped from their file and never swapped; this is for everything else.
if [ ! -e /etc/systemd/zram-generator.conf ]; then
    config=$(mktemp)
    printf '[zram0]\nzram-size = min(ram / 2, 4096)\ncompression-algorithm = zstd\n' > "$config"
    run $sudo install -m 644 "$config" /etc/systemd/zram-generator.conf
    rm -f "$config"
    run $sudo systemctl daemon-reload
    run $sudo systemctl start systemd-zram-setup@zram0.service
fi

# OpenBLAS shortens the reading of long prompts; the speed of answers is that of the memory.
source_folder=${LLAMA_CPP:-$HOME/llama.cpp}
if [ ! -d "$source_folder" ]; then
    run git clone --depth 1 https://github.com/ggml-org/llama.cpp "$source_folder"
fi
run cmake -S "$source_folder" -B "$source_folder/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS -DLLAMA_CURL=OFF
run cmake --build "$source_folder/build" --config Release -j "$THREADS"
echo "Ready. Talk to the model with: sh run_decoder.sh"
