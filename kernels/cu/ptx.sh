#!/bin/sh
# Makes the PTX that the program carries, from the sources beside this script, with pinned packages from PyPI.
#
#   kernels/cu/ptx.sh          writes kernels/ptx/*.ptx and kernels/ptx/REPORT.md
#   kernels/cu/ptx.sh --check  fails when what is committed is not what the sources give
#
# Needs python3 with venv, about 300 MB of room, and no GPU. `PEFT_PTX_TOOLS` names a folder to keep the tools in.
set -eu
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
out=$(dirname "$here")/ptx
tools=${PEFT_PTX_TOOLS:-$(mktemp -d)}
# What drivers from 525 on (CUDA 12.0) can load; the oldest chip whose instructions the sources use.
version=8.0
chip=80
# The chips whose registers and spills are reported.
chips="80 86 89 90"
# Sources whose instructions one chip alone has, and which.
own_chip() { case $1 in gemm_wgmma) echo 90a ;; esac; }

if [ ! -x "$tools/bin/pip" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check \
    nvidia-cuda-nvcc==13.5.37 nvidia-nvvm==13.5.37 nvidia-cuda-crt==13.5.37 \
    nvidia-cuda-runtime==13.5.37 nvidia-cuda-cccl==13.3.5.0.6
  # The assembler of CUDA 12.4 stands for the drivers: what it takes, they take.
  "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$tools/old" nvidia-cuda-nvcc-cu12==12.4.131
fi
toolkit=$(echo "$tools"/lib/python3*/site-packages/nvidia/cu13)
ptxas=$tools/old/nvidia/cuda_nvcc/bin/ptxas
chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/* "$ptxas" 2>/dev/null || true

made=$(mktemp -d)
for source in "$here"/*.cu; do
  name=$(basename "$source" .cu)
  own=$(own_chip "$name")
  CUDA_HOME=$toolkit "$toolkit/bin/nvcc" -std=c++17 -O3 -ptx -arch=compute_${own:-$chip} "$source" -o "$made/$name.raw"
  # Without the names of files and versions of tools, which say nothing about the kernels.
  # First the mark of the source and of all headers: a test without these tools compares it.
  {
    echo "// sources $(cat "$source" "$here"/*.cuh | sha256sum | cut -d ' ' -f 1)"
    sed -e "s/^\.version .*/.version $version/" -e '/^\/\//d' -e '/^$/d' "$made/$name.raw"
  } > "$made/$name.ptx"
  rm "$made/$name.raw"
done

{
  echo "# Registers and spills of every kernel"
  echo
  echo "By ptxas 12.4.131, from the PTX beside this file. A kernel that spills fails the script."
  echo
  echo "| kernel | chip | registers | shared bytes | spilled bytes |"
  echo "| --- | --- | --- | --- | --- |"
  for ptx in "$made"/*.ptx; do
    own=$(own_chip "$(basename "$ptx" .ptx)")
    for sm in ${own:-$chips}; do
      "$ptxas" -v -arch=sm_$sm "$ptx" -o /dev/null 2>&1 | awk -v sm=$sm '
        /Compiling entry function/ { split($0, part, "\047"); name = part[2] }
        /spill stores/ { for (i = 1; i <= NF; i++) if ($i == "spill") { spilled += $(i - 2) } }
        /Used [0-9]+ registers/ {
          registers = 0; shared = 0
          for (i = 1; i <= NF; i++) {
            if ($i == "registers," || $i == "registers") registers = $(i - 1)
            if ($i == "smem," || $i == "smem") shared = $(i - 2)
          }
          print "| " name " | sm_" sm " | " registers " | " shared " | " spilled + 0 " |"
          spilled = 0
        }'
    done
  done
} > "$made/REPORT.md"
if awk -F'|' 'NF > 5 && $6 + 0 > 0 { found = 1; print "spills:" $0 } END { exit !found }' "$made/REPORT.md" >&2; then
  exit 1
fi

if [ "${1:-}" = "--check" ]; then
  diff -r "$out" "$made"
else
  mkdir -p "$out"
  rm -f "$out"/*.ptx "$out/REPORT.md"
  cp "$made"/* "$out"
fi
rm -r "$made"
